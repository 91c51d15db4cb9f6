//! Is the console whole, and can it do no harm?

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{Answer, run, shared};

/// The files as they lie in the sources.
fn files() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/console");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".rs")).collect();
    names.sort();
    assert!(names.len() > 10, "{names:?}");
    names
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        other => panic!("what is a .{other}?"),
    }
}

#[test]
fn every_file_is_served_with_its_type_its_policy_and_its_tag() {
    let server = shared();
    run(async {
        // Nobody has a key before the page is there.
        let client = server.client_with(None);
        let mut tags = BTreeSet::new();
        for name in files() {
            let path = format!("/console/{name}");
            let answer = client.get(&path).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, content_type(&name)), "{path}");
            assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            let policy = answer.header("content-security-policy").to_owned();
            for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
                assert!(policy.split("; ").any(|found| found == rule), "{path}: {rule} is not in {policy}");
            }
            assert!(policy.contains("require-trusted-types-for 'script'"), "{path}: {policy}");
            for hole in ["unsafe", "*", "http:", "https:", "data:"] {
                assert!(!policy.contains(hole), "{path}: {hole} in {policy}");
            }
            let tag = answer.header("etag").to_owned();
            assert!(tags.insert(tag.clone()), "{path}: {tag} is another file's");
            let again = Answer::of(client.request("GET", &path).header("if-none-match", format!("\"x\", {tag}"))).await;
            assert_eq!((again.status, again.bytes.len(), again.header("etag")), (304, 0, tag.as_str()), "{path}");
            let other = Answer::of(client.request("GET", &path).header("if-none-match", "\"x\"")).await;
            assert_eq!((other.status, &other.bytes), (200, &answer.bytes), "{path}");
            let packed = Answer::of(client.request("GET", &path).header("accept-encoding", "gzip")).await;
            assert_eq!((packed.header("content-encoding"), packed.header("etag")), ("gzip", tag.as_str()), "{path}");
            assert!(packed.bytes.len() < answer.bytes.len(), "{path}");
        }
        let page = client.get("/console/index.html").await;
        for path in ["/console", "/console/"] {
            assert_eq!(client.get(path).await.bytes, page.bytes, "{path}");
        }
        assert_eq!(client.get("/console/mod.rs").await.problem(), (404, "route_not_found".into()));
    });
}

/// What stands between quotes and looks like an address.
fn references(text: &str) -> Vec<&str> {
    let parts = text.split(['"', '\'', '`', '(', ')', ' ', '\n', '>', '<']);
    parts.filter(|part| part.starts_with("/console") || part.contains("://") || part.starts_with("//")).collect()
}

#[test]
fn the_files_need_nothing_that_is_not_among_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/console");
    let known: BTreeSet<String> = files().iter().map(|name| format!("/console/{name}")).collect();
    let mut used = BTreeSet::from(["/console/index.html".to_owned()]);
    for name in files() {
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        for reference in references(&text) {
            // The namespace of SVG is a name, not an address; comments begin with two strokes.
            if reference == "//" || reference == "http://www.w3.org/2000/svg" {
                continue;
            }
            assert!(known.contains(reference), "{name} refers to {reference}, which is not served");
            used.insert(reference.to_owned());
        }
        // A string must never become HTML or code, and no key may outlive the page.
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "localStorage",
            "sessionStorage",
            "document.cookie",
            "indexedDB",
            "style=\"",
            "onclick=\"",
        ] {
            assert!(!text.contains(forbidden), "{name} has {forbidden}");
        }
    }
    assert_eq!(used, known, "every file is used by another");
}
