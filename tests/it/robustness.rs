//! Whatever comes in, what goes out is an answer that says what was wrong with it.

use std::path::Path;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upnext::security::{RateLimit, Scope};

use crate::support::client::fresh_session;
use crate::support::world::{large_png, png};
use crate::support::{Answer, Client, Setup, World, list, run, shared, text, tls};

/// The first bytes of a PNG of this size, with a right checksum, and no picture.
fn png_head(width: u32, height: u32) -> Vec<u8> {
    let mut file = png(&image::RgbImage::new(1, 1));
    let mut head = b"IHDR".to_vec();
    head.extend(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    head.extend([8, 2, 0, 0, 0]);
    file.truncate(8);
    file.extend(13_u32.to_be_bytes());
    file.extend(&head);
    file.extend(crc32(&head).to_be_bytes());
    file
}

/// The checksum of PNG (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    })
}

/// Half of a file.
fn half(file: &[u8]) -> Vec<u8> {
    file[..file.len() / 2].to_vec()
}

struct BadPicture {
    name: &'static str,
    file: Vec<u8>,
    status: u16,
    code: &'static str,
}

fn bad_pictures() -> Vec<BadPicture> {
    let jpeg = &World::get().pictures[0][0];
    let mut gif = b"GIF89a\xFF\xFF\xFF\xFF\x80\x00\x00\x00\x00\x00\xFF\xFF\xFF".to_vec();
    gif.extend(b",\x00\x00\x00\x00\xFF\xFF\xFF\xFF\x00\x02\x01\x00\x00;");
    let mut jpeg_bomb = b"\xFF\xD8\xFF\xC0\x00\x11\x08".to_vec();
    jpeg_bomb.extend([0xFF, 0xDC, 0xFF, 0xDC, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 0xFF, 0xD9]);
    let noise: Vec<u8> = (0..5_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let table: [(&'static str, Vec<u8>, u16, &'static str); 13] = [
        ("half a JPEG", half(jpeg), 422, "bad_image"),
        ("a JPEG without its last bytes", jpeg[..jpeg.len() - 40].to_vec(), 422, "bad_image"),
        ("half a PNG", half(&large_png()), 422, "bad_image"),
        ("the signature of a PNG alone", b"\x89PNG\r\n\x1a\n".to_vec(), 422, "bad_image"),
        ("HTML", b"<!doctype html><html><body>Not found</body></html>".to_vec(), 415, "unsupported_image"),
        ("noise", noise, 415, "unsupported_image"),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), 415, "unsupported_image"),
        ("TIFF", b"II*\x00\x08\x00\x00\x00\x00\x00".to_vec(), 415, "unsupported_image"),
        ("AVIF", b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1".to_vec(), 415, "unsupported_image"),
        ("a PNG that says 60,000 × 60,000", png_head(60_000, 60_000), 413, "image_too_large"),
        ("a GIF that says 65,535 × 65,535", gif, 413, "image_too_large"),
        ("a JPEG that says 65,500 × 65,500", jpeg_bomb, 413, "image_too_large"),
        ("a PNG without width", png_head(0, 10), 422, "bad_image"),
    ];
    table.into_iter().map(|(name, file, status, code)| BadPicture { name, file, status, code }).collect()
}

#[test]
fn bad_pictures_are_refused_wherever_they_come_in() {
    let server = shared();
    run(async {
        let client = server.client();
        for BadPicture { name, file, status, code } in bad_pictures() {
            let expected = (status, code.to_owned());
            let files = [file.clone()];
            let frame = client.post_bytes("/v1/sessions/bad/frames", "image/jpeg", file.clone()).await;
            let search = client.post_bytes("/v1/search", "application/octet-stream", file.clone()).await;
            let parts =
                client.send_parts("POST", "/v1/recommendations", ("request", &json!({})), ("frame", &files)).await;
            let item = client.send_parts("PUT", "/v1/items/bad", ("item", &json!({})), ("image", &files)).await;
            for (way, answer, field) in [
                ("as a frame", frame, "frame[0]"),
                ("as a search", search, "image"),
                ("as a part", parts, "frame[0]"),
                ("as an item's picture", item, "image[0]"),
            ] {
                assert_eq!(answer.problem(), expected, "{name} {way}: {}", answer.body);
                assert_eq!(answer.json()["errors"][0]["field"], field, "{name} {way}: {}", answer.body);
            }
        }
        assert_eq!(client.get("/v1/items/bad").await.status, 404);
        assert_eq!(client.get("/v1/sessions/bad").await.status, 404, "a bad frame makes no session");
        let good = client.post_bytes("/v1/sessions/bad/frames", "image/jpeg", World::get().frame(0, 1.0)).await;
        assert_eq!(good.status, 200, "the service goes on");
    });
}

/// A request that is refused: method, path, content type, body, and the status, code and field of the refusal.
type Refused = (&'static str, &'static str, &'static str, Vec<u8>, u16, &'static str, &'static str);

fn refused_requests() -> Vec<Refused> {
    const JSON: &str = "application/json";
    const FORM: &str = "multipart/form-data; boundary=X";
    let part = |name: &str, content: &str| {
        format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n--X--\r\n").into_bytes()
    };
    let form = |text: &str| text.as_bytes().to_vec();
    let large = vec![b' '; 5_000_000];
    vec![
        ("POST", "/v1/recommendations", JSON, form("{\"count\":"), 400, "malformed_json", ""),
        ("POST", "/v1/recommendations", JSON, form("{\"count\":3}}"), 400, "malformed_json", ""),
        ("POST", "/v1/recommendations", JSON, form(""), 400, "empty_body", ""),
        ("POST", "/v1/recommendations", JSON, form("{\"count\":\"x\"}"), 422, "invalid_value", "count"),
        ("POST", "/v1/recommendations", JSON, form("{\"count\":0}"), 422, "invalid_value", "count"),
        ("POST", "/v1/recommendations", JSON, form("{\"count\":101}"), 422, "invalid_value", "count"),
        ("POST", "/v1/recommendations", JSON, form("{\"cuont\":3}"), 422, "invalid_value", "cuont"),
        ("POST", "/v1/recommendations", JSON, form("[]"), 422, "invalid_value", ""),
        ("POST", "/v1/recommendations", JSON, form("{\"horizons_s\":[20]}"), 422, "invalid_value", "horizons_s"),
        ("POST", "/v1/recommendations", JSON, form("{\"horizons_s\":[]}"), 422, "invalid_value", "horizons_s"),
        ("POST", "/v1/recommendations", JSON, form("{\"diversity\":1.5}"), 422, "invalid_value", "diversity"),
        ("POST", "/v1/recommendations", JSON, form("{\"deadline_ms\":0}"), 422, "invalid_value", "deadline_ms"),
        ("POST", "/v1/recommendations", JSON, form("{\"session_id\":\"\"}"), 422, "invalid_value", "session_id"),
        (
            "POST",
            "/v1/recommendations",
            JSON,
            form("{\"context\":{\"region\":7}}"),
            422,
            "invalid_value",
            "context.region",
        ),
        (
            "POST",
            "/v1/recommendations",
            JSON,
            form("{\"filter\":{\"must\":[{\"field\":\"tag\"}]}}"),
            422,
            "invalid_value",
            "filter.must[0]",
        ),
        ("POST", "/v1/recommendations", "text/plain", form("hello"), 415, "unsupported_media_type", ""),
        ("POST", "/v1/recommendations", FORM, form("--X\r\nno end"), 400, "invalid_multipart", "body"),
        ("POST", "/v1/recommendations", FORM, form("--X--\r\n"), 400, "invalid_multipart", "body"),
        (
            "POST",
            "/v1/recommendations",
            "multipart/form-data",
            part("frame", "x"),
            400,
            "invalid_multipart",
            "content-type",
        ),
        ("POST", "/v1/recommendations", FORM, part("picture", "x"), 400, "invalid_multipart", "picture"),
        ("POST", "/v1/recommendations", FORM, part("frame", ""), 400, "invalid_multipart", "frame[0]"),
        ("POST", "/v1/recommendations", FORM, part("request", "{\"count\":"), 400, "malformed_json", ""),
        (
            "POST",
            "/v1/recommendations",
            FORM,
            part("request", "{\"frames_at_s\":[1]}"),
            422,
            "invalid_value",
            "frames_at_s",
        ),
        ("POST", "/v1/recommendations", JSON, large.clone(), 413, "body_too_large", ""),
        ("POST", "/v1/events", JSON, large.clone(), 413, "body_too_large", ""),
        ("PUT", "/v1/items/large", JSON, large.clone(), 413, "body_too_large", ""),
        ("POST", "/v1/search", "image/png", large[..1_500_000].to_vec(), 413, "body_too_large", ""),
        ("POST", "/v1/sessions/s/frames", "image/png", large[..1_500_000].to_vec(), 413, "body_too_large", ""),
        ("POST", "/v1/sessions/s/frames", "image/png", form(""), 400, "empty_body", ""),
        ("POST", "/v1/sessions/s/frames", JSON, form("{}"), 415, "unsupported_media_type", ""),
        ("POST", "/v1/sessions/s/frames?at_s=-1", "image/png", large_png(), 422, "invalid_value", "at_s"),
        ("POST", "/v1/sessions/s/frames?at=1", "image/png", large_png(), 400, "invalid_query", "at"),
        ("GET", "/v1/recommendations?count=many", "", form(""), 400, "invalid_query", "count"),
        ("GET", "/v1/recommendations?filter=%7B", "", form(""), 400, "malformed_json", ""),
        ("GET", "/v1/recommendations?horizons_s=a", "", form(""), 422, "invalid_value", "horizons_s"),
        ("PUT", "/v1/items/a", JSON, form("{\"item_id\":\"b\"}"), 422, "invalid_value", "item_id"),
        ("PUT", "/v1/items/a", JSON, form("{\"duration_s\":-2}"), 422, "invalid_value", "duration_s"),
        ("PUT", "/v1/items/a", JSON, form("{\"images_base64\":[\"%\"]}"), 422, "invalid_value", "images_base64[0]"),
        ("PUT", "/v1/items/a", JSON, form("{\"available_from\":\"soon\"}"), 422, "invalid_value", "available_from"),
        ("PUT", "/v1/items/a", FORM, part("image", "x"), 400, "invalid_multipart", "item"),
        ("PUT", "/v1/items/a", "image/jpeg", form("x"), 415, "unsupported_media_type", ""),
        ("POST", "/v1/items/batch", "text/csv", form("a,b"), 415, "unsupported_media_type", ""),
        ("POST", "/v1/search", JSON, form("{}"), 422, "invalid_value", "body"),
        ("POST", "/v1/search", JSON, form("{\"text\":\" \"}"), 422, "invalid_value", "text"),
        ("POST", "/v1/search", JSON, form("{\"item_id\":\"nothing\"}"), 404, "item_not_found", ""),
        ("POST", "/v1/events", JSON, form("{}"), 422, "invalid_value", "events"),
        ("GET", "/v1/nothing", "", form(""), 404, "route_not_found", ""),
        ("GET", "/v1/items/nothing", "", form(""), 404, "item_not_found", ""),
        ("GET", "/v1/sessions/nothing", "", form(""), 404, "session_not_found", ""),
        ("DELETE", "/v1/sessions/nothing", "", form(""), 404, "session_not_found", ""),
        ("GET", "/v1/items/%FF", "", form(""), 400, "invalid_path", "item_id"),
    ]
}

#[test]
fn what_cannot_be_used_is_refused_and_named() {
    let server = shared();
    run(async {
        let client = server.client();
        for (method, path, content_type, body, status, code, field) in refused_requests() {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let mut request = client.request(method, path);
            if !content_type.is_empty() {
                request = request.header("content-type", content_type).body(body);
            }
            let answer = Answer::of(request).await;
            assert_eq!(answer.problem(), (status, code.to_owned()), "{method} {path} {shown}: {}", answer.body);
            if !field.is_empty() {
                assert_eq!(answer.json()["errors"][0]["field"], field, "{method} {path} {shown}: {}", answer.body);
            }
        }
    });
}

#[test]
fn a_wrong_method_says_which_ones_are_right() {
    let server = shared();
    run(async {
        let client = server.client();
        for (method, path, allowed) in [
            ("POST", "/v1/items/a", ["GET", "PUT", "PATCH", "DELETE"].as_slice()),
            ("DELETE", "/v1/events", &["POST"]),
            ("PUT", "/v1/recommendations", &["GET", "POST"]),
            ("GET", "/v1/search", &["POST"]),
            ("POST", "/livez", &["GET"]),
        ] {
            let answer = Answer::of(client.request(method, path)).await;
            assert_eq!(answer.problem(), (405, "method_not_allowed".into()), "{method} {path}");
            let allow: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
            assert!(allowed.iter().all(|method| allow.contains(method)), "{method} {path}: {allow:?}");
        }
    });
}

#[test]
fn keys_open_only_what_they_are_for() {
    let server = Setup::default().start();
    run(async {
        let nobody = server.client_with(None);
        let someone = server.client_with(Some("un_0123456789ab_notakeynotakeynotakeynotakeynotakeynotakey1"));
        let garbage = server.client_with(Some("secret"));
        for client in [nobody, someone, garbage] {
            for (method, path) in [("GET", "/v1/recommendations"), ("GET", "/metrics"), ("DELETE", "/v1/items/a")] {
                let answer = Answer::of(client.request(method, path)).await;
                assert_eq!(answer.problem(), (401, "unauthorized".into()), "{method} {path}");
                assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
            }
            for path in ["/livez", "/readyz", "/openapi.json", "/asyncapi.json", "/"] {
                assert_eq!(client.get(path).await.status, 200, "{path} needs no key");
            }
        }
    });
    // Keys that the server finds when it starts.
    let scoped = [Scope::Recommend, Scope::Ingest, Scope::Metrics].map(|scope| (scope, server.new_key(&[scope], None)));
    let server = server.restart();
    run(async {
        let doors = [
            ("GET", "/v1/recommendations", Scope::Recommend),
            ("GET", "/v1/sessions/s", Scope::Recommend),
            ("POST", "/v1/events", Scope::Ingest),
            ("DELETE", "/v1/items/a", Scope::Ingest),
            ("GET", "/metrics", Scope::Metrics),
            ("GET", "/v1/admin/status", Scope::Admin),
        ];
        for (own, key) in &scoped {
            let client = server.client_with(Some(key));
            for (method, path, needed) in doors {
                let answer = Answer::of(client.request(method, path)).await;
                if *own == needed {
                    assert!(![401, 403].contains(&answer.status), "{method} {path}: {}", answer.body);
                } else {
                    assert_eq!(answer.problem(), (403, "forbidden".into()), "{method} {path}");
                    assert!(answer.body.contains(needed.name()), "{}", answer.body);
                }
            }
            // Both readers and writers may look at an item.
            let expected = if *own == Scope::Metrics { 403 } else { 404 };
            assert_eq!(client.get("/v1/items/a").await.status, expected);
        }
        // The other header.
        let http = server.client_with(None);
        let request = http.request("GET", "/v1/recommendations").header("x-api-key", server.key());
        assert_eq!(Answer::of(request).await.status, 200);
    });
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let server = Setup::default().start();
    let slow = server.new_key(&[Scope::Recommend], RateLimit::new(1, 2));
    let server = server.restart();
    run(async {
        let (slow, fast) = (server.client_with(Some(&slow)), server.client());
        let mut refused = 0;
        // At one a second with two in advance, forty in a row cannot all be allowed.
        for _ in 0..40 {
            let answer = slow.get("/v1/recommendations").await;
            if answer.status != 200 {
                assert_eq!(answer.problem(), (429, "rate_limited".into()));
                assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
                refused += 1;
            }
            assert_eq!(fast.get("/v1/recommendations").await.status, 200, "other keys do not notice");
        }
        assert!(refused > 0);
        assert_eq!(fast.metric("upnext_rate_limited_total").await, f64::from(refused));
    });
}

#[test]
fn answers_carry_the_clients_request_id_if_it_is_harmless() {
    let server = shared();
    run(async {
        let client = server.client();
        let with_id = async |id: &str| Answer::of(client.request("GET", "/livez").header("x-request-id", id)).await;
        assert_eq!(with_id("trace-1234/5").await.header("x-request-id"), "trace-1234/5");
        for odd in ["a b", "{}", &"x".repeat(200)] {
            assert_ne!(with_id(odd).await.header("x-request-id"), odd);
        }
    });
}

/// Posts every file of a folder as a frame.
async fn post_files(client: &Client, folder: &Path) -> (usize, Vec<String>) {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    let (count, mut faults) = (files.len(), Vec::new());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let path = format!("/v1/sessions/{}/frames", fresh_session());
        let bytes = std::fs::read(&file).unwrap();
        let response = client.request(Method::POST.as_str(), &path).header("content-type", "application/octet-stream");
        let answer = Answer::of(response.body(bytes)).await;
        let prefix = name.split(['_', '.']).next().unwrap_or_default();
        let good = match (prefix, answer.status) {
            ("ok", 200 | 415) | ("maybe", 200) => true,
            ("bad" | "bomb" | "maybe", status) => (400..500).contains(&status),
            _ => false,
        };
        if !good {
            faults.push(format!("{name}: {} {}", answer.status, answer.body.chars().take(120).collect::<String>()));
        }
    }
    (count, faults)
}

#[test]
fn a_folder_of_awkward_pictures_gets_what_the_names_say() {
    let Some(folder) = std::env::var_os("UPNEXT_DATA").map(|data| Path::new(&data).join("tricky/generated")) else {
        eprintln!("skipped: UPNEXT_DATA names no folder with tricky/generated");
        return;
    };
    let server =
        Setup::default().with("vision.max_image_bytes=20000000").with("server.body_limit_bytes=64000000").start();
    let (count, faults) = run(post_files(&server.client(), &folder));
    assert!(count > 0 && faults.is_empty(), "of {count} files:\n{}", faults.join("\n"));
    eprintln!("{count} files");
}

#[test]
fn words_in_a_problem_are_for_people() {
    let server = shared();
    run(async {
        let answer = server.client().post("/v1/recommendations", &json!({"count": 0, "diversity": 3})).await;
        let problem = answer.json();
        assert_eq!(text(&problem["detail"]), "count: must be 1 to 100");
        assert_eq!(list(&problem["errors"]).len(), 1);
    });
}

#[test]
fn bodies_in_memory_are_bounded() {
    let server = Setup::default().with("server.upload_memory_bytes=4000000").start();
    run(async {
        let (client, frame) = (server.client(), World::get().frame(1, 1.0));
        let post = || client.post_bytes("/v1/sessions/s/frames", "image/jpeg", frame.clone());
        post().await.ok();
        // It does not say how long it will be, and stops after the first bytes.
        let mut stalled = tls::connect(server.address(), server.certificate()).await;
        let head = format!(
            "POST /v1/sessions/stalled/frames HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: image/jpeg\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n",
            server.key()
        );
        stalled.write_all(head.as_bytes()).await.unwrap();
        let mut asked = [0; 12];
        stalled.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100", "it has begun to read the body");
        stalled.write_all(b"3\r\n\xFF\xD8\xFF\r\n").await.unwrap();
        let refused = post().await;
        assert_eq!((refused.problem(), refused.header("retry-after")), ((503, "busy".into()), "1"));
        client.get("/v1/recommendations").await.ok();
        // The server notices in its own time that somebody has gone.
        drop(stalled);
        while post().await.status != 200 {}
    });
}
