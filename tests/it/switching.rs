//! Is anything that a model has seen ever compared with what another one sees?
//!
//! Two models of the same dimensions take turns: `left` makes numbers of which the second half is 0, `right` such of which the first
//! is. What one of them makes of any two pictures is alike, and has a cosine of 0 with anything that the other makes. So a
//! single comparison across the two shows itself, wherever it happens.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::world::base64;
use crate::support::{Client, Server, Setup, World, list, number, run, text};

/// Far above 0, and below what any two pictures have in common.
const ALIKE: f64 = 0.2;

#[derive(Debug, Clone)]
enum Step {
    /// This item gets this picture.
    Put(usize, usize),
    Delete(usize),
    /// One of the two is to take over; nobody waits for it.
    Activate(bool),
    RollBack,
    /// Nothing else is done until nobody is to take over any more.
    Wait,
    Search(usize),
    Similar(usize),
    /// A frame of a session that goes on all the time.
    Frame(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_usize..8, 0_usize..24).prop_map(|(item, picture)| Step::Put(item, picture)),
        1 => (0_usize..8).prop_map(Step::Delete),
        4 => any::<bool>().prop_map(Step::Activate),
        1 => Just(Step::RollBack),
        2 => Just(Step::Wait),
        6 => (0_usize..24).prop_map(Step::Search),
        3 => (0_usize..8).prop_map(Step::Similar),
        3 => (0_usize..24).prop_map(Step::Frame),
        1 => Just(Step::Restart),
    ]
}

async fn settled(client: &Client) {
    while !client.get("/v1/admin/models").await.ok()["coming"].is_null() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn all_alike(answer: &Value, expected: usize) -> Result<(), TestCaseError> {
    let hits = list(&answer["items"]);
    prop_assert_eq!(hits.len(), expected, "{}", answer);
    for hit in hits {
        prop_assert!(number(&hit["score"]) > ALIKE, "{}", answer);
    }
    Ok(())
}

/// Does one step and checks what is answered. `items` has the picture of each.
async fn act(server: &Server, items: &mut BTreeMap<usize, usize>, step: &Step) -> Result<(), TestCaseError> {
    let (client, world) = (server.client(), World::get());
    let name = |item: usize| format!("/v1/items/i{item}");
    let activate = async |path: &str, body: &Value| {
        let answer = client.post(path, body).await;
        // There may be nothing to go back to.
        prop_assert!([202, 422].contains(&answer.status), "{}", answer.body);
        Ok(())
    };
    match *step {
        Step::Put(item, picture) => {
            let body = json!({"title": "t", "images_base64": [base64(&world.pictures[picture][0])]});
            client.put(&name(item), &body).await.ok();
            items.insert(item, picture);
        }
        Step::Delete(item) => {
            let answer = client.delete(&name(item)).await;
            prop_assert_eq!(answer.status == 204, items.remove(&item).is_some(), "{}", answer.body);
        }
        Step::Activate(left) => {
            let model = json!({"models": [{"name": if left { "left" } else { "right" }}]});
            activate("/v1/admin/models/activate", &model).await?;
        }
        Step::RollBack => activate("/v1/admin/models/rollback", &Value::Null).await?,
        Step::Wait => settled(&client).await,
        Step::Search(picture) => {
            let file = world.pictures[picture][0].clone();
            let answer = client.post_bytes("/v1/search?limit=30", "image/jpeg", file).await.ok();
            all_alike(&answer, items.len())?;
            if items.values().any(|own| *own == picture) {
                prop_assert!(number(&answer["items"][0]["score"]) > 0.99, "{}", answer);
            }
        }
        Step::Similar(item) => {
            let answer = client.get(&format!("{}/similar?limit=30", name(item))).await;
            if items.contains_key(&item) {
                all_alike(&answer.ok(), items.len() - 1)?;
            }
        }
        Step::Frame(picture) => {
            let path = "/v1/sessions/s/frames?recommend=true&explain=true&deadline_ms=60000";
            let answer = client.post_bytes(path, "image/jpeg", world.pictures[picture][0].clone()).await.ok();
            prop_assert!(!text(&answer["recommendation"]["model"]).is_empty());
        }
        Step::Restart => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn vectors_of_different_models_never_meet(steps in vec(step(), 20..40)) {
        let setup = Setup::default().with("inference.models_dir=tests/fixtures/models").with("inference.model=left");
        let (mut server, mut items) = (setup.start(), BTreeMap::new());
        for step in &steps {
            if matches!(step, Step::Restart) {
                server = server.restart();
            } else {
                run(act(&server, &mut items, step))?;
            }
        }
        // Whoever is to take over does, and the others are gone for good.
        run(async {
            settled(&server.client()).await;
            act(&server, &mut items, &Step::Search(0)).await?;
            act(&server, &mut items, &Step::Frame(0)).await
        })?;
    }
}
