//! Do the sources keep the rules that ARCHITECTURE.md states?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may know whom. A module may always use itself.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("domain", &[]),
    ("telemetry", &[]),
    ("vision", &PART),
    ("inference", &PART),
    ("index", &PART),
    ("session", &PART),
    ("collab", &PART),
    ("ranking", &PART),
    ("store", &PART),
    ("security", &PART),
    ("config", &PART),
    ("simulation", &PART),
    ("evaluation", &["domain", "telemetry", "collab", "ranking", "simulation"]),
    (
        "engine",
        &["domain", "telemetry", "vision", "inference", "index", "session", "collab", "ranking", "store", "security"],
    ),
    ("api", &["domain", "telemetry", "engine", "security"]),
    (
        "app",
        &[
            "domain",
            "telemetry",
            "vision",
            "inference",
            "index",
            "session",
            "collab",
            "ranking",
            "store",
            "security",
            "config",
            "engine",
            "api",
        ],
    ),
    (
        "cli",
        &[
            "domain",
            "telemetry",
            "vision",
            "inference",
            "index",
            "session",
            "collab",
            "ranking",
            "store",
            "security",
            "config",
            "simulation",
            "evaluation",
            "engine",
            "api",
            "app",
        ],
    ),
    ("main", &["cli"]),
];

/// The parts are siblings: none knows another.
const PART: [&str; 2] = ["domain", "telemetry"];

const LINES_AT_MOST: usize = 700;

struct Source {
    /// Below `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module of the first level that it belongs to.
    fn module(&self) -> String {
        let first = self.path.components().next().unwrap();
        Path::new(first.as_os_str()).with_extension("").display().to_string()
    }

    /// How many `super::` lead from it to the crate's root.
    fn depth(&self) -> usize {
        let is_folder = self.path.file_stem().is_some_and(|stem| stem == "mod");
        self.path.components().count() - usize::from(is_folder)
    }

    /// Without comments. Strings stay: a path in one would be odd enough to be told.
    fn code(&self) -> String {
        self.text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), text });
            }
        }
    }
    assert!(found.len() > 100, "the sources were not found");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The modules of this crate that `code` names: `crate::a::…`, `crate::{a, b::…}`, and `upnext::a::…` in `main`.
fn named(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut modules = Vec::new();
    for root in ["crate::", "upnext::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let after = &code[at + root.len()..];
            let Some(group) = after.strip_prefix('{') else {
                modules.push(word(after));
                continue;
            };
            // The entries of the outermost braces.
            let (mut depth, mut entry) = (1, String::new());
            for c in group.chars() {
                depth += i32::from(c == '{') - i32::from(c == '}');
                if depth == 0 || (depth == 1 && c == ',') {
                    modules.push(word(entry.trim()));
                    entry.clear();
                } else {
                    entry.push(c);
                }
                if depth == 0 {
                    break;
                }
            }
        }
    }
    modules.retain(|module| !module.is_empty() && module.chars().all(|c| c.is_lowercase() || c == '_'));
    modules
}

/// The modules of the first level that `code`, `depth` below the root, reaches by `super::super::…`.
fn reached(code: &str, depth: usize) -> Vec<String> {
    let way = "super::".repeat(depth);
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let all = code.match_indices(&way).map(|(at, _)| word(code[at + way.len()..].trim_start_matches("super::")));
    all.filter(|name| ALLOWED.iter().any(|(module, _)| module == name)).collect()
}

/// All faults at once, so that they can be mended at once.
fn refuse(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn names_are_found() {
    let code =
        "use crate::domain::{Item, ItemId};\nuse crate::{engine, index::{flat, hnsw}};\nfn f() -> crate::api::X {}
        mycrate::store::y; upnext::cli::run(); use crate::Error;";
    assert_eq!(named(code), ["domain", "engine", "index", "api", "cli"]);
    assert_eq!(reached("use super::super::store::Store; use super::super::wheel;", 2), ["store"]);
    assert!(reached("use super::store::Store;", 2).is_empty(), "a submodule of that name");
}

#[test]
fn modules_know_only_whom_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut faults = Vec::new();
    for source in sources() {
        let module = source.module();
        if module == "lib" {
            continue;
        }
        let Some(known) = allowed.get(module.as_str()) else {
            faults.push(format!("{module}: a new module; say in tests/it/architecture.rs whom it may know"));
            continue;
        };
        let code = source.code();
        for name in named(&code).into_iter().chain(reached(&code, source.depth())) {
            // Whatever is no module of the first level is an item of the crate's root, of which there are none.
            if name != module && !known.contains(&name.as_str()) {
                faults.push(format!(
                    "src/{}: `{module}` must not know `{name}`. The parts are siblings that know only `domain`, so that each \
                     can be read, tested and replaced alone; `engine` joins them (ARCHITECTURE.md).",
                    source.path.display()
                ));
            }
        }
    }
    refuse(&faults);
}

#[test]
fn the_first_line_says_which_question_a_file_answers() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| {
            format!("src/{}: begins without `//!`. A reader wants to know what a file is for.", source.path.display())
        })
        .collect();
    refuse(&faults);
}

#[test]
fn files_are_short_enough_to_be_read() {
    let faults: Vec<String> = sources()
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|&(_, lines)| lines > LINES_AT_MOST)
        .map(|(source, lines)| {
            format!(
                "src/{}: {lines} lines, {LINES_AT_MOST} are allowed; look twice at 600. Does it do two things?",
                source.path.display()
            )
        })
        .collect();
    refuse(&faults);
}

#[test]
fn nothing_is_printed_behind_the_logs_back() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.code().lines().enumerate() {
            for name in ["println!", "eprintln!", "print!", "eprint!", "dbg!"] {
                let called = line
                    .match_indices(name)
                    .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'));
                if called {
                    faults.push(format!(
                        "src/{}:{}: {name} A service writes to its log (`tracing`); a command writes through `cli::output`.",
                        source.path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    refuse(&faults);
}
