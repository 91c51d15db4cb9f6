//! Do the bitmaps agree with the items?

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::domain::{ItemId, Range};

const NUMBERS: [f64; 8] = [-3.0, -0.0, 0.0, 1.0, 1.5, 12.0, f64::INFINITY, f64::NAN];
const FIELDS: [&str; 13] = [
    "item_id",
    "tag",
    "tags",
    "category",
    "region",
    "regions",
    "age_rating",
    "duration_s",
    "year",
    "studio",
    "cast",
    "flag",
    "nothing",
];

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "de", "at", "1", "12", "true", "-0"]).prop_map(String::from)
}

fn number() -> impl Strategy<Value = f64> {
    prop::sample::select(NUMBERS.to_vec())
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (0_i64..8).prop_map(Timestamp)
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        any::<bool>().prop_map(Attribute::Flag),
        number().prop_map(Attribute::Number),
        word().prop_map(Attribute::Text),
        vec(word(), 0..3).prop_map(Attribute::Texts),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let labels = (vec(word(), 0..3), vec(word(), 0..3), vec(word(), 0..3));
    let numbers = (option::of(0_u8..3), option::of(0_u8..3));
    let window = (option::of(moment()), option::of(moment()));
    let attributes = prop::collection::btree_map(prop::sample::select(FIELDS.to_vec()), attribute(), 0..4);
    (labels, numbers, window, attributes).prop_map(|(labels, numbers, window, attributes)| {
        let mut item = Item::new(ItemId::new("unset").unwrap());
        (item.tags, item.categories, item.regions) = labels;
        item.age_rating = numbers.0;
        item.duration_s = numbers.1.map(f32::from);
        (item.available_from, item.available_until) = window;
        item.attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        item
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let test = prop_oneof![
        vec(word(), 0..3).prop_map(Test::Any),
        [option::of(number()), option::of(number()), option::of(number()), option::of(number())]
            .prop_map(|[gte, gt, lte, lt]| Test::Range(Range { gte, gt, lte, lt })),
    ];
    (prop::sample::select(FIELDS.to_vec()), test).prop_map(|(field, test)| Condition { field: field.into(), test })
}

fn filter() -> impl Strategy<Value = Filter> {
    (vec(condition(), 0..3), vec(condition(), 0..3), vec(condition(), 0..3))
        .prop_map(|(must, must_not, should)| Filter { must, must_not, should })
}

proptest! {
    #[test]
    fn bitmaps_agree_with_the_items(
        changes in vec((0_u32..12, option::weighted(0.8, item())), 1..40),
        filters in vec(filter(), 1..12),
        now in moment(),
        region in option::of(word()),
    ) {
        let index = AttributeIndex::new();
        let mut items = BTreeMap::new();
        for (number, change) in changes {
            if let Some(mut item) = change {
                item.id = ItemId::new(number.to_string()).unwrap();
                index.upsert(ItemNo(number), items.get(&number), &item);
                items.insert(number, item);
            } else {
                let before = items.remove(&number);
                let any = before.clone().unwrap_or_else(|| Item::new(ItemId::new("none").unwrap()));
                prop_assert_eq!(index.remove(ItemNo(number), &any), before.is_some());
            }
            // Asked in between, so that what is remembered from one question to the next is put to the test too.
            let open: RoaringBitmap = items.iter().filter(|(_, i)| i.available(now, None)).map(|(n, _)| *n).collect();
            prop_assert_eq!(index.allowed_now(&Filter::default(), now, None), open);
            let open: RoaringBitmap =
                items.iter().filter(|(_, i)| i.available(now, region.as_deref())).map(|(n, _)| *n).collect();
            prop_assert_eq!(index.allowed_now(&Filter::default(), now, region.as_deref()), open);
        }
        prop_assert_eq!(index.len(), items.len());
        for filter in filters {
            let expected = |passes: &dyn Fn(&Item) -> bool| -> RoaringBitmap {
                items.iter().filter(|(_, item)| passes(item)).map(|(number, _)| *number).collect()
            };
            prop_assert_eq!(index.allowed(&filter), expected(&|item| filter.accepts(item)));
            for now in [now, Timestamp(now.0 + 1), Timestamp(now.0 - 1)] {
                let expected = expected(&|item| filter.accepts(item) && item.available(now, region.as_deref()));
                prop_assert_eq!(index.allowed_now(&filter, now, region.as_deref()), expected.clone());
                let restricts = expected.len() < items.len() as u64;
                prop_assert_eq!(index.restriction(&filter, now, region.as_deref()), restricts.then_some(expected));
            }
        }
    }
}

#[test]
fn nothing_is_left_of_items_that_went() {
    let index = AttributeIndex::new();
    let mut item = Item::new(ItemId::new("i").unwrap());
    item.tags = vec!["sea".into(), "sea".into()];
    item.regions = vec!["de".into()];
    item.age_rating = Some(12);
    item.available_from = Some(Timestamp(5));
    index.upsert(ItemNo(3), None, &item);
    assert!(index.bytes() > 0);
    assert_eq!(index.restriction(&Filter::default(), Timestamp(4), None), Some(RoaringBitmap::new()));
    assert_eq!(index.restriction(&Filter::default(), Timestamp(5), Some("de")), None);
    assert!(index.remove(ItemNo(3), &item));
    assert!(!index.remove(ItemNo(3), &item));
    let state = index.state.read();
    assert_eq!(state.words.len(), 0);
    assert!(state.numbers.is_empty() && state.all.is_empty());
    drop(state);
    assert_eq!(index.restriction(&Filter::default(), Timestamp(4), Some("fr")), None);
}
