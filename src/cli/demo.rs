//! `upnext demo`: a service to play with, on embedded defaults.
//!
//! The first start makes a catalogue with pictures and two weeks of a simulated audience's events, through the same use
//! cases that clients reach over HTTP. Later starts find them in the data folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output::{bar, line};
use super::serve::{progress_log, scheme, serve};
use super::{CliError, Common, runtime, start_tracing, tokio_runtime};
use crate::app::{App, AppError};
use crate::config::{Settings, TlsMode};
use crate::domain::{Clock, Event, SystemClock, Timestamp};
use crate::engine::{EngineError, ItemWrite};
use crate::security::{self, KeyFile, NewKey, Scopes};
use crate::simulation::{Catalogue, CatalogueItem, Population, PopulationOptions};
use crate::vision::thumbnail_jpeg;

/// The seed of the demo's world.
const SEED: u64 = 2026;
/// Where in its video the demo's frames are taken, in seconds.
const FRAMES_AT_S: [u32; 3] = [10, 12, 14];
/// How many events are written with one call.
const EVENTS_AT_ONCE: usize = 1_000;
/// How many items are written with one call.
const ITEMS_AT_ONCE: usize = 16;
const KEY_NAME: &str = "demo-key";

/// Serve a made-up catalogue with a made-up audience, and print what to try
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Items in the catalogue
    #[arg(long, default_value_t = 360, value_parser = clap::value_parser!(u32).range(24..=5000))]
    items: u32,
    /// Viewers in the audience
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    viewers: u32,
    /// Address and port
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<SocketAddr>,
    /// Load the catalogue, print what to try, and end without serving
    #[arg(long)]
    prepare_only: bool,
}

impl Demo {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let mut sources = common.sources();
        if common.data_dir.is_none() {
            // A folder of its own: the demo's people must not mix with real ones. What the operator says still wins.
            sources.overrides.insert(0, "data_dir=data/demo".into());
        }
        if !sources.environment.iter().any(|(name, _)| name == "UPNEXT__TELEMETRY__LOG_FILTER") {
            sources.overrides.insert(0, "telemetry.log_filter=warn".into());
        }
        sources.overrides.extend(self.bind.map(|bind| format!("server.bind={bind}")));
        let settings = Settings::load(&sources)?.settings;
        let _traces = start_tracing(&settings)?;
        runtime::ensure(settings.inference.runtime_path.as_deref())?;

        let app = App::build(settings.clone(), Arc::new(SystemClock), progress_log())?;
        let catalogue = Catalogue::generate(SEED, self.items as usize);
        let tokio = tokio_runtime()?;
        tokio.block_on(self.load(&app, &catalogue)).map_err(|e| CliError::Failed(format!("the demo's world: {e}")))?;
        let scene = Scene::prepare(&settings, &catalogue)?;
        if self.prepare_only {
            scene.explain(&settings, settings.server.bind);
            app.stop();
            return Ok(());
        }
        tokio.block_on(serve(app, &settings, |address| scene.explain(&settings, address)))
    }

    /// Loads what is not there yet.
    async fn load(&self, app: &App, catalogue: &Catalogue) -> Result<(), EngineError> {
        let engine = app.engine();
        let now = SystemClock.now();
        let missing: Vec<&CatalogueItem> =
            catalogue.items().iter().filter(|item| engine.item(&item.item.id).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let progress = bar("catalogue and pictures", missing.len() as u64);
        for chunk in missing.chunks(ITEMS_AT_ONCE) {
            let mut writes = Vec::with_capacity(chunk.len());
            for item in chunk {
                writes.push(write_of(item, now)?);
            }
            for outcome in engine.put_items(writes).await {
                outcome?;
                progress.inc(1);
            }
        }
        progress.finish_and_clear();

        let options = PopulationOptions { users: self.viewers, ..PopulationOptions::default() };
        let population = Population::generate(SEED, catalogue, options).with_user_keys(|user| app.user_key(user));
        let events: Vec<Event> = population.events(now).collect();
        let progress = bar("two weeks of viewing", events.len() as u64);
        for chunk in events.chunks(EVENTS_AT_ONCE) {
            engine.observe_events(chunk.to_vec(), true).await?;
            progress.inc(chunk.len() as u64);
        }
        progress.finish_and_clear();
        Ok(())
    }
}

/// The item with a thumbnail and two scenes as its pictures.
fn write_of(item: &CatalogueItem, now: Timestamp) -> Result<ItemWrite, EngineError> {
    let duration_s = item.duration_s();
    let scenes = [0.2, 0.6].map(|share| item.artwork.frame_sized(share * duration_s, 320, 180));
    let mut images = Vec::with_capacity(3);
    for picture in std::iter::once(item.thumbnail()).chain(scenes) {
        let jpeg = thumbnail_jpeg(&picture, 320).map_err(|e| EngineError::Internal(e.to_string()))?;
        images.push(jpeg.into());
    }
    let mut write = item.item_at(now);
    // The demo is to be tried at any time of the year: nothing leaves it.
    write.available_until = None;
    Ok(ItemWrite { item: write, images: Some(images) })
}

/// What the printed commands use: a key, a certificate, frames of one of the catalogue's videos.
struct Scene {
    key_file: PathBuf,
    certificate: Option<PathBuf>,
    frames: Vec<PathBuf>,
    playing: String,
    title: String,
}

impl Scene {
    fn prepare(settings: &Settings, catalogue: &Catalogue) -> Result<Self, CliError> {
        let dir = &settings.data_dir;
        let playing = catalogue.items().first().ok_or_else(|| CliError::Failed("the catalogue is empty".into()))?;
        let frames_dir = dir.join("frames");
        std::fs::create_dir_all(&frames_dir).map_err(CliError::io(frames_dir.display()))?;
        let mut frames = Vec::new();
        for at_s in FRAMES_AT_S {
            let file = frames_dir.join(format!("{}-{at_s}s.jpg", playing.item.id));
            if !file.exists() {
                let jpeg = thumbnail_jpeg(&playing.frame(f64::from(at_s)), 640)
                    .map_err(|e| CliError::Failed(format!("a frame cannot be encoded: {e}")))?;
                std::fs::write(&file, jpeg).map_err(CliError::io(file.display()))?;
            }
            frames.push(file);
        }
        let certificate = match settings.server.tls.mode {
            TlsMode::Off => None,
            TlsMode::Files => settings.server.tls.cert.clone(),
            TlsMode::Development => {
                let made = security::ensure_development_certificate(dir, SystemClock.now()).map_err(AppError::from)?;
                Some(made.cert)
            }
        };
        Ok(Self {
            key_file: ensure_key(dir)?,
            certificate,
            frames,
            playing: playing.item.id.as_str().to_owned(),
            title: playing.item.title.clone(),
        })
    }

    fn explain(&self, settings: &Settings, address: SocketAddr) {
        let base = format!("{}://localhost:{}", scheme(settings), address.port());
        let trust = self.certificate.as_ref().map(|c| format!(" --cacert {}", c.display())).unwrap_or_default();
        let curl = format!("curl -sS{trust} -H \"Authorization: Bearer $(cat {})\"", self.key_file.display());
        let Self { playing, title, frames, .. } = self;
        let frame = frames.last().map(|f| f.display().to_string()).unwrap_or_default();
        let forms: String = frames.iter().map(|f| format!(" -F frame=@{}", f.display())).collect();
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        line(format_args!(
            r#"UpNext is serving on {base} ({now}). Somebody watches "{title}"; try:

  # One frame in, three lists out: what will they want within 15, 30 and 60 seconds?
  {curl} --data-binary @{frame} \
    '{base}/v1/sessions/me/frames?item_id={playing}&at_s=14&recommend=true&count=3'

  # Three frames in their order, with reasons
  {curl}{forms} \
    -F 'request={{"session_id":"you","item_id":"{playing}","count":3,"explain":true}}' {base}/v1/recommendations

  # Which items look like this picture?
  {curl} --data-binary @{frame} '{base}/v1/search?limit=5'

  # Tell what they did; the next answer knows it
  {curl} -H 'Content-Type: application/json' \
    -d '{{"events":[{{"type":"play","session_id":"me","item_id":"{playing}"}}]}}' {base}/v1/events

  # What the service measures of itself
  {curl} {base}/metrics
"#
        ));
    }
}

/// A key with all scopes, kept in a file that only its owner can read, so that every start prints the same commands.
fn ensure_key(dir: &Path) -> Result<PathBuf, CliError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let file = dir.join(KEY_NAME);
    let keys = KeyFile::in_dir(dir);
    let known = std::fs::read_to_string(&file).ok().filter(|key| {
        let id = key.split('_').nth(1).unwrap_or_default();
        keys.list().is_ok_and(|list| list.iter().any(|k| k.id == id && k.revoked_at.is_none()))
    });
    if known.is_none() {
        let new = NewKey { name: "demo".into(), scopes: Scopes::all(), expires_at: None, rate_limit: None };
        let created = keys.create(new, SystemClock.now())?;
        let mut open = std::fs::OpenOptions::new();
        let mut handle = open
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&file)
            .map_err(CliError::io(file.display()))?;
        handle.write_all(created.key.as_bytes()).map_err(CliError::io(file.display()))?;
    }
    Ok(file)
}
