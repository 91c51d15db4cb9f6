//! `upnext watch`: what would somebody who watches this video want next? Frames go out once a second of media time; the
//! lists that come back are shown as they change, or printed as a JSON line each.

mod frames;
mod screen;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use self::frames::{Frame, Source};
use self::screen::Screen;
use super::connection::{Connection, Patience};
use super::output::{complain, line};
use super::{CliError, Common, interrupted, tokio_runtime};

/// A server that is busy is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Titles that are remembered.
const MAX_TITLES: usize = 5_000;

/// Play a video or a folder of pictures to a server, and show the lists as they change
///
/// Without `--url` it is the demo on this machine, with the demo's key and certificate.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// A video file, the URL of one (both need ffmpeg), or a folder of pictures, which are shown in the order of their names
    #[arg(value_name = "FILE|URL|FOLDER")]
    source: String,
    /// The server
    #[arg(long, value_name = "URL", default_value = "https://localhost:8443")]
    url: String,
    /// File with the API key, which needs the scope `recommend`; without, the environment variable `UPNEXT_KEY`, then the
    /// demo's
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Send the key even where the connection to another machine is not encrypted
    #[arg(long)]
    allow_http: bool,
    /// The session; a new one if left out
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The item of the catalogue that is on screen
    #[arg(long, value_name = "ID")]
    item: Option<String>,
    /// Items in each list
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=50))]
    count: u32,
    /// Seconds of media a second; 0 goes as fast as the server answers
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Print each answer as a JSON line
    #[arg(long)]
    json: bool,
    /// The program that takes frames out of videos
    #[arg(long, value_name = "PROGRAM", default_value = "ffmpeg")]
    ffmpeg: PathBuf,
}

impl Watch {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        if !(self.speed.is_finite() && self.speed >= 0.0) {
            return Err(CliError::Failed("--speed: must be 0 or more".into()));
        }
        let source = Source::of(&self.source)?;
        let (key_file, cacert) = self.credentials(common);
        let connection = super::target::connect_to(&self.url, key_file.as_deref(), cacert.as_deref(), self.allow_http)?;
        let frames = source.start(&self.ffmpeg)?;
        tokio_runtime()?.block_on(async {
            tokio::select! {
                done = self.play(frames, &connection) => done,
                () = interrupted() => Ok(()),
            }
        })
    }

    /// What was named, else what the demo has left in its folder, if this is to be the demo.
    fn credentials(&self, common: &Common) -> (Option<PathBuf>, Option<PathBuf>) {
        let dir = common.data_dir.clone().unwrap_or_else(|| "data/demo".into());
        let local = self.url.contains("//localhost") || self.url.contains("//127.0.0.1");
        let found = |name: &str| Some(dir.join(name)).filter(|file| local && file.exists());
        let own_key = std::env::var_os("UPNEXT_KEY").is_some();
        let key_file = self.key_file.clone().or_else(|| if own_key { None } else { found("demo-key") });
        (key_file, self.cacert.clone().or_else(|| found("development-cert.pem")))
    }

    async fn play(&self, mut frames: frames::Frames, connection: &Connection) -> Result<(), CliError> {
        let session = self.session.clone().unwrap_or_else(|| format!("watch-{}", uuid::Uuid::now_v7().simple()));
        let mut view = View { titles: HashMap::new(), screen: Screen::new(std::io::stdout().is_terminal()) };
        let began = Instant::now();
        let mut shown = 0_u64;
        while let Some(frame) = frames.next().await {
            let frame = frame?;
            if self.speed > 0.0 {
                tokio::time::sleep_until((began + Duration::from_secs_f64(frame.at_s / self.speed)).into()).await;
            }
            let at_s = frame.at_s;
            let Some(answer) = self.ask(connection, &session, frame).await? else { continue };
            shown += 1;
            if self.json {
                let mut answer = answer;
                answer["at_s"] = json!(at_s);
                line(answer);
            } else {
                view.show(connection, at_s, &answer).await;
            }
        }
        if shown == 0 {
            return Err(CliError::Failed(format!("{}: has no frame that the server could use", self.source)));
        }
        Ok(())
    }

    /// The server's answer to one frame; nothing if it cannot use this picture.
    async fn ask(&self, connection: &Connection, session: &str, frame: Frame) -> Result<Option<Value>, CliError> {
        let mut query = vec![
            ("recommend", "true".to_owned()),
            ("explain", "true".to_owned()),
            ("at_s", frame.at_s.to_string()),
            ("count", self.count.to_string()),
        ];
        query.extend(self.item.iter().map(|item| ("item_id", item.clone())));
        let path = format!("/v1/sessions/{}/frames", segment(session));
        let mut patience = Patience::new(PATIENCE);
        loop {
            let request = connection
                .request(Method::POST, &path)
                .query(&query)
                .header(CONTENT_TYPE, "application/octet-stream")
                .timeout(REQUEST_TIMEOUT)
                .body(frame.bytes.clone());
            let failed = |e: reqwest::Error| {
                CliError::Failed(format!("{}: {}", connection.base(), super::connection::chain(&e)))
            };
            let answer = request.send().await.map_err(failed)?;
            let status = answer.status();
            if status.is_success() {
                return answer.json().await.map(Some).map_err(failed);
            }
            let asked = super::connection::retry_after(answer.headers());
            let problem: super::connection::Problem = answer.json().await.unwrap_or_default();
            let why = format!("{status}: {}", problem.detail);
            if super::connection::passes(status) {
                patience.wait(connection.base(), asked, &why).await?;
            } else if matches!(problem.code.as_str(), "bad_image" | "image_too_large" | "unsupported_image") {
                complain(&format_args!("the picture at {} s is left out: {}", frame.at_s, problem.detail));
                return Ok(None);
            } else {
                return Err(CliError::Failed(format!("{} answered {why}", connection.base())));
            }
        }
    }
}

/// What a person sees, with the titles of what has been recommended.
struct View {
    titles: HashMap<String, String>,
    screen: Screen,
}

impl View {
    async fn show(&mut self, connection: &Connection, at_s: f64, answer: &Value) {
        let lists = answer["recommendation"]["horizons"].as_array().cloned().unwrap_or_default();
        let ids =
            lists.iter().filter_map(|list| list["items"].as_array()).flatten().filter_map(|i| i["item_id"].as_str());
        for id in ids {
            if self.titles.contains_key(id) {
                continue;
            }
            if self.titles.len() >= MAX_TITLES {
                self.titles.clear();
            }
            let request = connection.request(Method::GET, &format!("/v1/items/{}", segment(id)));
            // Without a title the id is shown; it may have been deleted meanwhile.
            let item = connection.answer(request.timeout(REQUEST_TIMEOUT)).await.unwrap_or_default();
            let title = item["title"].as_str().filter(|title| !title.is_empty()).unwrap_or(id);
            self.titles.insert(id.to_owned(), title.to_owned());
        }
        line(self.screen.draw(at_s, answer, &self.titles));
    }
}

/// `text` as one segment of a path (RFC 3986).
fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
