//! Do the links lead everywhere, also when they come from a file, and is a damaged file refused?

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::domain::{Embedding, LoadError};
use crate::index::quantise::Row;
use crate::index::slots::Slots;

const DIMS: usize = 24;

fn settings() -> IndexSettings {
    IndexSettings { build_effort: 60, links: 8, ..IndexSettings::new(DIMS) }
}

fn random(rng: &mut StdRng) -> Embedding {
    Embedding::unit((0..DIMS).map(|_| rng.random_range(-1.0_f32..1.0)).collect()).unwrap()
}

/// 1,300 slots (a full chunk and some more) of which every tenth is equal to the first, and a graph over most of them.
fn example() -> (Slots, Graph) {
    let (mut rng, slots) = (StdRng::seed_from_u64(1), Slots::new(DIMS, settings().precision));
    let first = random(&mut rng);
    for item in 0..1_300 {
        let vector = if item % 10 == 0 { first.clone() } else { random(&mut rng) };
        slots.put(ItemNo(item), &[Row::new(&vector, settings().precision)]).unwrap();
    }
    let graph = Graph::new(&settings(), Kernels::best(), slots.stride());
    for end in [400, 1_200] {
        assert!(graph.extend(&slots.view(), end, &settings(), &AtomicBool::new(false)));
    }
    (slots, graph)
}

fn found(graph: &Graph, slots: &Slots, query: &Embedding, effort: usize) -> Vec<u32> {
    let (view, reach) = (slots.view(), Reach { effort, steps: usize::MAX, rows: usize::MAX });
    let found = graph.search(&view, &Query::new(query), reach, |slot| view.item(slot));
    assert!(found.complete);
    let mut slots: Vec<u32> = found.rows.iter().map(|row| row.slot).collect();
    slots.sort_unstable();
    slots
}

#[test]
fn every_slot_is_led_to() {
    let (slots, graph) = example();
    assert_eq!((graph.nodes(), graph.folded(), graph.covered()), (1_081, 119, 1_200));
    let query = random(&mut StdRng::seed_from_u64(2));
    assert_eq!(found(&graph, &slots, &query, 5_000), (0..1_200).collect::<Vec<u32>>());
    slots.remove(ItemNo(0));
    slots.remove(ItemNo(17));
    assert_eq!(found(&graph, &slots, &query, 5_000).len(), 1_198, "what is dead is walked through");
}

#[test]
fn a_graph_that_was_stopped_goes_on_from_there() {
    let (slots, whole) = example();
    let graph = Graph::new(&settings(), Kernels::best(), slots.stride());
    assert!(!graph.extend(&slots.view(), 400, &settings(), &AtomicBool::new(true)));
    assert_eq!(graph.covered(), 0);
    for end in [400, 1_200] {
        assert!(graph.extend(&slots.view(), end, &settings(), &AtomicBool::new(false)));
    }
    assert_eq!((graph.nodes(), graph.folded()), (whole.nodes(), whole.folded()));
}

#[test]
fn a_search_ends_when_it_has_gone_far_enough() {
    let (slots, graph) = example();
    let view = slots.view();
    let query = Query::new(&random(&mut StdRng::seed_from_u64(3)));
    let nobody = |_| None;
    let search = |steps| graph.search(&view, &query, Reach { effort: 10, steps, rows: 10 }, nobody);
    assert!(!search(20).complete && search(5_000).complete);
    assert!(search(5_000).rows.is_empty());
}

#[test]
fn a_saved_graph_answers_and_grows_as_before() {
    let (slots, graph) = example();
    let bytes = graph.to_bytes(&slots.view());
    let loaded = Graph::from_bytes(&settings(), Kernels::best(), &slots.view(), &bytes).unwrap();
    assert_eq!((loaded.nodes(), loaded.folded(), loaded.covered()), (1_081, 119, 1_200));
    assert_eq!(loaded.to_bytes(&slots.view()), bytes);
    let mut rng = StdRng::seed_from_u64(4);
    for _ in 0..10 {
        let query = random(&mut rng);
        assert_eq!(found(&loaded, &slots, &query, 20), found(&graph, &slots, &query, 20));
    }
    assert!(loaded.extend(&slots.view(), 1_300, &settings(), &AtomicBool::new(false)));
    assert_eq!(found(&loaded, &slots, &random(&mut rng), 5_000).len(), 1_300);
    let empty = Graph::new(&settings(), Kernels::best(), slots.stride());
    let bytes = empty.to_bytes(&slots.view());
    assert_eq!(Graph::from_bytes(&settings(), Kernels::best(), &slots.view(), &bytes).unwrap().covered(), 0);
}

#[test]
fn a_graph_over_other_rows_or_of_another_kind_is_refused() {
    let (slots, graph) = example();
    let bytes = graph.to_bytes(&slots.view());
    let load = |slots: &Slots, settings: &IndexSettings| {
        Graph::from_bytes(settings, Kernels::best(), &slots.view(), &bytes).map(drop).unwrap_err()
    };
    let more_links = IndexSettings { links: 16, ..settings() };
    assert_eq!(load(&slots, &more_links), LoadError::Incompatible("number of links"));
    let others = Slots::new(DIMS, settings().precision);
    assert!(matches!(load(&others, &settings()), LoadError::Damaged(_)), "there are not that many rows");
    let mut rng = StdRng::seed_from_u64(5);
    (0..1_300).for_each(|item| others.put(ItemNo(item), &[Row::new(&random(&mut rng), settings().precision)]).unwrap());
    assert_eq!(load(&others, &settings()), LoadError::Incompatible("set of vectors"));
}

#[test]
fn damage_is_found_whether_or_not_the_checksum_shows_it() {
    let (slots, graph) = example();
    let (view, bytes) = (slots.view(), graph.to_bytes(&slots.view()));
    let load = |bytes: &[u8]| Graph::from_bytes(&settings(), Kernels::best(), &view, bytes);
    for length in [0, 3, 8, 12, 60, bytes.len() / 2, bytes.len() - 1] {
        assert!(load(&bytes[..length]).is_err());
    }
    let mut rng = StdRng::seed_from_u64(6);
    let mut refused = 0;
    for _ in 0..60 {
        let mut damaged = bytes.clone();
        let place = rng.random_range(0..bytes.len() - 4);
        damaged[place] ^= 1 << rng.random_range(0..8);
        assert!(load(&damaged).is_err(), "the checksum does not agree");
        // Now it does: either it is refused for what it says, or nothing that it says leads astray.
        let end = damaged.len() - 4;
        let checksum = crc32fast::hash(&damaged[..end]).to_le_bytes();
        damaged[end..].copy_from_slice(&checksum);
        match load(&damaged) {
            Ok(graph) => drop(found(&graph, &slots, &random(&mut rng), 5_000)),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 10, "{refused}");
}
