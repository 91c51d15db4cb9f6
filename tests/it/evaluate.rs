//! Do `upnext evaluate` and `upnext train` do what their documents say? Each is run as a process, as an operator would.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use upnext::evaluation::{ClickLog, mixture, simulate};

use crate::export::filled;
use crate::support::command::{done, failed, outcome};

/// A small log with a seed, as tables of clicks have it.
fn log(sessions: usize) -> ClickLog {
    simulate(&mixture(1, sessions, 3)[0], 3).log
}

fn write(file: &Path, log: &ClickLog, separator: char, mut time: impl FnMut(i64) -> String) {
    let mut text = format!("SessionId{separator}ItemId{separator}Time\n");
    for session in &log.sessions {
        for &(item, at) in &session.clicks {
            writeln!(text, "{}{separator}i{}{separator}{}", session.key, item.0, time(at.0)).unwrap();
        }
    }
    std::fs::write(file, text).unwrap();
}

/// A folder with a log in two parts.
fn two_logs() -> (tempfile::TempDir, PathBuf, PathBuf, ClickLog) {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = log(160).split(0.8);
    let (train_file, test_file) = (dir.path().join("train.tsv"), dir.path().join("test.csv"));
    write(&train_file, &train, '\t', |ms| format!("{}", ms as f64 / 1000.0));
    write(&test_file, &test, ',', |ms| ms.to_string());
    (dir, train_file, test_file, test)
}

fn words(command: &str, words: &[&str]) -> Vec<String> {
    std::iter::once(command).chain(words.iter().copied()).map(str::to_owned).collect()
}

fn shown(file: &Path) -> &str {
    file.to_str().unwrap()
}

/// How many positions of `log` have something to find within `seconds`, counted by hand.
fn positions(log: &ClickLog, seconds: i64) -> usize {
    let found = |clicks: &[(upnext::domain::ItemNo, upnext::domain::Timestamp)], at: usize| {
        let (current, now) = clicks[at];
        clicks[at + 1..].iter().any(|&(item, then)| item != current && then.0 - now.0 <= seconds * 1000)
    };
    log.sessions.iter().map(|s| (0..s.clicks.len()).filter(|&at| found(&s.clicks, at)).count()).sum()
}

#[test]
fn an_evaluation_answers_with_table_json_and_page() {
    let (dir, train, test, judged) = two_logs();
    let (json, page) = (dir.path().join("out.json"), dir.path().join("out.html"));
    let common = ["--train", shown(&train), "--test", shown(&test), "--bootstrap", "50", "--seed", "4"];
    let more = [
        "--json",
        shown(&json),
        "--plots",
        shown(&page),
        "--next",
        "5",
        "--k",
        "10",
        "--ablations",
        "--decisions",
        "60",
    ];
    let table = done(words("evaluate", &[&common[..], &more].concat()));
    assert!(table.contains("15 s: ") && table.contains("session_knn") && table.contains("without a source"), "{table}");

    let text = std::fs::read_to_string(&json).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((found["k"].as_u64(), found["learning"].as_str()), (Some(10), Some("strict")));
    let horizons = found["horizons"].as_array().unwrap();
    assert_eq!(horizons.len(), 3);
    for (horizon, seconds) in horizons.iter().zip([15, 30, 60]) {
        assert_eq!(horizon["seconds"], seconds);
        assert_eq!(horizon["positions"], positions(&judged, seconds));
        for name in ["blend", "session_knn", "transition", "co_visitation", "popularity"] {
            let ranker = &horizon["rankers"][name];
            for figure in ["hr", "mrr", "ndcg"] {
                let value = ranker[figure].as_f64().unwrap();
                let bounds = &ranker[format!("{figure}_interval")];
                let (low, high) = (bounds[0].as_f64().unwrap(), bounds[1].as_f64().unwrap());
                assert!(0.0 <= low && low <= value && value <= high && high <= 1.0, "{name} {figure} {ranker}");
            }
            assert!((0.0..=1.0).contains(&ranker["coverage"].as_f64().unwrap()));
        }
        assert!(horizon["rankers"]["visual"].is_null(), "there are no pictures");
        let (ece, loss) = (horizon["ece"].as_f64().unwrap(), horizon["log_loss"].as_f64().unwrap());
        assert!((0.0..0.1).contains(&ece) && loss < 0.5, "{horizon}");
        let bounds = [0, 1].map(|n| horizon["ece_interval"][n].as_f64().unwrap());
        assert!(0.0 <= bounds[0] && bounds[0] <= ece && ece <= bounds[1], "{horizon}");
        let calibration = &horizon["calibration"];
        assert_eq!(calibration["bins"].as_array().unwrap().len(), 10);
        assert_eq!(calibration["top_decile"], calibration["bins"][9]);
        let best = &horizon["differences"]["blend_over_best"];
        let of = |name: &str| horizon["rankers"][name]["mrr"].as_f64().unwrap();
        assert!((best["mrr"].as_f64().unwrap() - (of("blend") - of(best["ranker"].as_str().unwrap()))).abs() < 1e-9);
        assert_eq!(horizon["own_horizon_over_others"].as_object().unwrap().len(), 2);
        // What is known of the session must be worth something.
        assert!(of("blend") > 2.0 * of("popularity"), "{horizon}");
    }
    assert!(found["own_lists_over_one_list"]["60"]["mrr_interval"].is_array());
    assert_eq!(found["next"]["engagements"], 5);
    assert!(found["next"]["rankers"]["blend"]["ndcg"].as_f64().unwrap() > 0.0);
    for name in ["without_session", "without_transition", "without_co_visitation", "without_trending"] {
        let parts = &found["ablations"][name]["horizons"];
        assert!(parts[0]["blend"]["mrr"].is_f64() && parts[0]["lost"]["mrr_interval"].is_array(), "{name} {parts}");
    }
    let page = std::fs::read_to_string(&page).unwrap();
    let blend = format!("{:.4} [", horizons[0]["rankers"]["blend"]["mrr"].as_f64().unwrap());
    for part in ["<svg", "Reliability diagram of the 60 s", "MRR by ranker", "MRR lost without each source", &blend] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("src="));
}

#[test]
fn who_has_just_come_is_offered_what_everybody_turns_to() {
    let (dir, train, test, judged) = two_logs();
    let json = dir.path().join("out.json");
    let common = ["--train", shown(&train), "--test", shown(&test), "--weights", "shipped", "--bootstrap", "20"];
    let said = done(words("evaluate", &[&common[..], &["--arrivals", "--json", shown(&json)]].concat()));
    assert!(said.contains("nothing is known of who comes"), "{said}");
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&found["arrivals"], found["moments"].as_u64()), (&true.into(), Some(judged.sessions.len() as u64)));
    for horizon in found["horizons"].as_array().unwrap() {
        assert_eq!(horizon["positions"].as_u64(), Some(judged.sessions.len() as u64), "the first click follows");
        let rankers = horizon["rankers"].as_object().unwrap();
        assert_eq!(rankers.keys().collect::<Vec<_>>(), ["blend", "popularity"], "the others need a history");
        let of = |name: &str| rankers[name]["hr"].as_f64().unwrap();
        assert!(of("blend") > 0.8 * of("popularity"), "{horizon}");
    }
}

#[test]
fn one_log_is_enough_and_weights_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let (file, json) = (dir.path().join("log.csv"), dir.path().join("out.json"));
    write(&file, &log(120), ';', |ms| format!("{}", ms / 1000));
    let weights = dir.path().join("weights.toml");
    let said = done(words("train", &["--log", shown(&file), "--out", shown(&weights), "--decisions", "60"]));
    for part in ["fitted: log loss", "the shipped weights: log loss", "0 to 15 s:", "engagements", "ranking.weights="] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let mut texts = Vec::new();
    for given in [shown(&weights), "shipped", "shipped"] {
        let common = ["--train", shown(&file), "--weights", given, "--learning", "live", "--bootstrap", "0"];
        let more = ["--limit", "60", "--exclude-seen", "--holdout", "0.3", "--json", shown(&json)];
        done(words("evaluate", &[&common[..], &more].concat()));
        let text = std::fs::read_to_string(&json).unwrap();
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["weights"], given);
        assert!(found["fit"].is_null() && found["horizons"][2]["rankers"]["blend"]["mrr_interval"].is_null());
        assert!((60..120).contains(&found["moments"].as_u64().unwrap()), "{}", found["moments"]);
        texts.push(text);
    }
    assert_eq!(texts[1], texts[2], "the same words say the same");
}

#[test]
fn a_server_can_be_judged_by_what_it_has_stored() {
    let stopped = filled().stop();
    let folder = stopped.settings.data_dir.display().to_string();
    let json = stopped.settings.data_dir.join("out.json");
    let common = ["--data-dir", &folder];
    let more = ["--weights", "shipped", "--holdout", "0.5", "--bootstrap", "10", "--json", shown(&json)];
    let said = done(words("evaluate", &[&common[..], &more].concat()));
    assert!(said.contains("judged on 20 clicks of 7 sessions"), "{said}");
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(found["horizons"][0]["rankers"]["visual"]["hr"].is_f64(), "two items have pictures: {found}");
    assert!(failed(words("evaluate", &["--data-dir", "/no/such/folder"])).contains("holds no database"));

    // What is stored of items teaches weights, too.
    let out = stopped.settings.data_dir.join("weights.toml");
    let said = done(words("train", &["--data-dir", &folder, "--share", "0.9", "--linear", "--out", shown(&out)]));
    assert!(said.contains("2 items have pictures, 7 have words"), "{said}");
    let weights = std::fs::read_to_string(&out).unwrap();
    for known in ["visual_known", "metadata_known"] {
        let line = weights.lines().find(|line| line.starts_with(known)).unwrap();
        assert!(!line.contains("mean = [0.0, 0.0, 0.0]"), "{line}");
    }
}

#[test]
fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (good, empty, short) = (dir.path().join("a.csv"), dir.path().join("b.csv"), dir.path().join("c.csv"));
    write(&good, &log(20), ',', |ms| ms.to_string());
    std::fs::write(&empty, "").unwrap();
    std::fs::write(&short, "SessionId,ItemId,Time\n1,a,10\n1,b,20\n").unwrap();
    let said = |more: &[&str]| failed(words("evaluate", more));
    assert!(said(&["--train", "/no/such/log"]).contains("/no/such/log: No such file"));
    assert!(said(&["--train", shown(&empty)]).contains("is empty"));
    assert!(said(&["--train", shown(&good), "--columns", "item=film"]).contains("no column `film`"));
    assert!(said(&["--train", shown(&good), "--columns", "film=ItemId"]).contains("not `film=ItemId`"));
    assert!(said(&["--train", shown(&short)]).contains("no weights could be fitted: interval"));
    assert!(said(&["--train", shown(&good), "--horizons", "60,30"]).contains("--horizons: horizons must rise"));
    assert!(said(&["--train", shown(&good), "--weights", "none.toml"]).contains("none.toml: No such file"));
    assert!(said(&["--train", shown(&good), "--weights", "shipped", "--horizons", "5"]).contains("[15, 30, 60]"));
    assert!(said(&["--train", shown(&good), "--json", "/no/such/folder/out"]).contains("cannot be written"));
    assert!(said(&["--train", shown(&good), "--images", "/no/such/folder"]).contains("/no/such/folder"));
    assert!(failed(words("train", &["--log", shown(&short)])).contains("no weights could be fitted"));
    let usage = outcome(words("evaluate", &["--test", shown(&good)]));
    assert_eq!(usage.status.code(), Some(2), "a test without a training log");
}
