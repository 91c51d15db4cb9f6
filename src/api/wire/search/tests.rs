//! Are searches read as they are written, and refused where they are wrong?

use serde_json::json;

use super::*;
use crate::api::extract::from_value;

fn read(body: serde_json::Value, images: &[&'static [u8]]) -> Result<SearchRequest, ApiError> {
    let images: Vec<Bytes> = images.iter().copied().map(Bytes::from_static).collect();
    from_value::<SearchBody>(body, "")?.into_asked(&images, &Limits::default()).map(|asked| asked.request)
}

fn picture(text: &'static str) -> Example {
    Example::Image(Bytes::from_static(text.as_bytes()))
}

fn examples(list: &[WeightedExample]) -> Vec<(Example, f32, &str)> {
    list.iter().map(|e| (e.example.clone(), e.weight, e.place.as_str())).collect()
}

#[test]
fn one_example_is_written_in_short() {
    let item = ItemId::new("a").unwrap();
    let only = |request: SearchRequest| {
        assert_eq!((request.positive.len(), request.negative.len()), (1, 0));
        request.positive[0].example.clone()
    };
    assert_eq!(only(read(json!({"item_id": "a"}), &[]).unwrap()), Example::Item(item));
    assert_eq!(only(read(json!({"text": "sea"}), &[]).unwrap()), Example::Text("sea".into()));
    assert_eq!(only(read(json!({"image_base64": "aGk="}), &[]).unwrap()), picture("hi"));
    let by_part = read(json!({"limit": 3, "score_threshold": 0.5}), &[b"jpeg"]).unwrap();
    assert_eq!((by_part.limit, by_part.score_threshold), (3, Some(0.5)));
    assert_eq!(examples(&by_part.positive), [(picture("jpeg"), 1.0, "image")]);
    assert_eq!(read(json!({}), &[]).unwrap_err().fields()[0].field, "body");
}

#[test]
fn several_examples_count_together() {
    let body = json!({
        "text": "sea",
        "positive": [{"item_id": "a", "by": "mixed", "weight": 4}, {"image_part": 1, "weight": 0.5}],
        "negative": [{"embedding": [1.0, 2.0]}, {"text": "storm"}],
        "strategy": "average_vector", "fusion": "rrf", "group": false, "explain": true, "offset": 7,
    });
    let request = read(body, &[b"one", b"two"]).unwrap();
    let item = || ItemId::new("a").unwrap();
    assert_eq!(
        examples(&request.positive),
        [
            (Example::Text("sea".into()), 1.0, "text"),
            (Example::Item(item()), 2.0, "positive[0]"),
            (Example::ItemWords(item()), 2.0, "positive[0]"),
            (picture("two"), 0.5, "positive[1]"),
            (picture("one"), 1.0, "image[0]"),
        ]
    );
    assert_eq!(
        examples(&request.negative),
        [(Example::Embedding(vec![1.0, 2.0]), 1.0, "negative[0]"), (Example::Text("storm".into()), 1.0, "negative[1]"),]
    );
    assert_eq!((request.strategy, request.fusion), (Strategy::AverageVector, Fusion::Rrf));
    assert_eq!((request.each_image, request.explain, request.offset), (true, true, 7));
}

#[test]
fn bounds_are_checked_and_named() {
    let many = |count: usize| vec![json!({"text": "a"}); count];
    let pictures = vec![json!({"image_base64": "aGk="}); 17];
    for (body, field) in [
        (json!({"text": " "}), "text"),
        (json!({"text": "a".repeat(1_001)}), "text"),
        (json!({"text": "a", "limit": 0}), "limit"),
        (json!({"text": "a", "limit": 100_000}), "limit"),
        (json!({"text": "a", "available_at": "tomorrow"}), "available_at"),
        (json!({"text": "a", "region": ""}), "region"),
        (json!({"text": "a", "with": ["title", "price"]}), "with[1]"),
        (json!({"text": "a", "strategy": "worst"}), "strategy"),
        (json!({"image_base64": "%"}), "image_base64"),
        (json!({"positive": many(33)}), "positive"),
        (json!({"positive": many(20), "negative": many(20)}), "negative"),
        (json!({"positive": pictures}), "body"),
        (json!({"positive": [{"text": "a"}, {}]}), "positive[1]"),
        (json!({"positive": [{"text": "a", "item_id": "b"}]}), "positive[0]"),
        (json!({"positive": [{"text": "a", "by": "image"}]}), "positive[0].by"),
        (json!({"positive": [{"text": "a", "weight": 0}]}), "positive[0].weight"),
        (json!({"positive": [{"text": "a", "weight": 1e9}]}), "positive[0].weight"),
        (json!({"positive": [{"image_part": 0}]}), "positive[0].image_part"),
        (json!({"negative": [{"image_base64": "%"}]}), "negative[0].image_base64"),
        (json!({"negative": [{"colour": "red"}]}), "negative[0].colour"),
    ] {
        assert_eq!(read(body.clone(), &[]).unwrap_err().fields()[0].field, field, "{body}");
    }
}

#[test]
fn queries_say_the_same_as_bodies() {
    let query = SearchQuery {
        limit: Some(3),
        available_at: Some("2026-01-31T18:30:00Z".into()),
        region: Some("de".into()),
        with: Some("title, thumbnail".into()),
        group: Some(false),
        model_weights: Some("appearance:2, other".into()),
        ..SearchQuery::default()
    };
    assert!(!query.is_empty() && SearchQuery::default().is_empty());
    let Asked { request, with } = query.with_image(Bytes::from_static(b"x"), &Limits::default()).unwrap();
    assert_eq!((request.limit, request.each_image, request.region.as_deref()), (3, true, Some("de")));
    assert!(matches!(request.available_at, AvailableAt::Then(_)));
    assert_eq!(request.model_weights, [("appearance".to_owned(), 2.0), ("other".to_owned(), 1.0)].into());
    assert_eq!(with, [WithField::Title, WithField::Thumbnail]);
    let item = ItemId::new("a").unwrap();
    let similar = |query: SimilarQuery| query.with_item(&item, &Limits::default());
    assert_eq!(
        similar(SimilarQuery { filter: Some("[".into()), ..SimilarQuery::default() }).unwrap_err().kind().0,
        400
    );
    let refused = similar(SimilarQuery { with: Some("titel".into()), ..SimilarQuery::default() }).unwrap_err();
    assert_eq!(refused.fields()[0].field, "with");
    let mixed = similar(SimilarQuery { by: Some(LikenessBody::Mixed), ..SimilarQuery::default() }).unwrap();
    assert_eq!(mixed.request.positive.len(), 2);
}
