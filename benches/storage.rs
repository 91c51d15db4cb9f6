//! How long do a start, an erasure, a snapshot and a rewrite take? `cargo bench --bench storage -- --items 100000 --events 1000000`
//!
//! Fills a data folder with items (random embeddings, as wide as the model's) and events of many people, then starts the
//! service on it: first from the log alone, then from a checkpoint, after a stop and after a crash. Prints a table.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use upnext::app::{self, App};
use upnext::config::{Settings, Sources};
use upnext::domain::{
    Embedding, Event, EventId, EventKind, Item, ItemId, SessionId, SystemClock, Timestamp, UserId, UserKey,
};
use upnext::engine::{Progress, Step};
use upnext::inference::Manifest;
use upnext::security::UserHasher;
use upnext::store::{ImageRecord, ItemRecord, Snapshots, Store};

type Failure = Box<dyn Error + Send + Sync>;

/// How long do a start, an erasure, a snapshot and a rewrite take?
#[derive(Debug, Parser)]
#[command(name = "storage", max_term_width = 110)]
struct Args {
    /// Items in the catalogue, one image each; without, nothing is measured
    #[arg(long)]
    items: Option<usize>,
    /// Events in the log
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// People whose events they are; one of them has a thousand
    #[arg(long, default_value_t = 50_000)]
    users: usize,
    /// Folder to fill, kept for the next run; without, one that is removed
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A setting, for example `store.check_on_open=false`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("storage: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn run(args: &Args) -> Result<(), Failure> {
    let Some(items) = args.items else {
        say("nothing was measured; say how many, for example `cargo bench --bench storage -- --items 100000`");
        return Ok(());
    };
    let temporary;
    let dir = match &args.data_dir {
        Some(dir) => dir.as_path(),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let mut sources = Sources::default();
    sources.overrides.push(format!("data_dir={}", dir.display()));
    sources.overrides.push("server.tls.mode=off".into());
    sources.overrides.extend(args.overrides.clone());
    let settings = Settings::load(&sources)?.settings;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    let dims = model_dims()?;
    if !dir.join("upnext.redb").exists() {
        let store = app::open_store(&settings)?;
        let began = Instant::now();
        runtime.block_on(put_items(&store, items, dims, &model_id()?))?;
        row("filling: items", began.elapsed(), &format!("{:.0}/s", items as f64 / began.elapsed().as_secs_f64()));
        let began = Instant::now();
        let heavy = heavy_user(&settings)?;
        runtime.block_on(append(&store, args, items, heavy))?;
        let rate = args.events as f64 / began.elapsed().as_secs_f64();
        row("filling: events, batches of 1,000", began.elapsed(), &format!("{rate:.0}/s"));
    }
    say(&format!("database {} MB", megabytes(&dir.join("upnext.redb"))));
    std::fs::remove_dir_all(dir.join("checkpoints")).ok();

    let from_log = start(&settings, "start from the log alone")?;
    let began = Instant::now();
    from_log.engine().save_checkpoint()?;
    row("a checkpoint", began.elapsed(), &format!("{} MB", megabytes(&dir.join("checkpoints"))));
    from_log.stop();

    let from_checkpoint = start(&settings, "start from a checkpoint")?;
    let heavy = heavy_user(&settings)?;
    let began = Instant::now();
    let erased = runtime.block_on(from_checkpoint.engine().erase_user(heavy))?;
    row("erasing somebody", began.elapsed(), &format!("{} events, {} sessions", erased.events, erased.sessions));
    from_checkpoint.stop();

    let store = app::open_store(&settings)?;
    let snapshots = Snapshots::in_dir(dir);
    let began = Instant::now();
    let made = snapshots.create(&store, None, Timestamp(0), |_, _| {})?;
    row("a snapshot", began.elapsed(), &format!("{} MB", made.bytes / 1_000_000));
    let began = Instant::now();
    let verified = snapshots.verify_with(&made.name, &store)?;
    row("verifying it", began.elapsed(), &format!("good: {}", verified.is_good()));
    snapshots.delete(&made.name)?;
    let began = Instant::now();
    store.rewrite(|_, _| {})?;
    row("rewriting the file", began.elapsed(), &format!("{} MB", megabytes(&dir.join("upnext.redb"))));
    Ok(())
}

fn row(what: &str, took: Duration, more: &str) {
    say(&format!("{what:<44} {:>8.2} s   {more}", took.as_secs_f64()));
}

fn megabytes(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path())).sum::<u64>() / 1_000_000,
        Err(_) => size(path) / 1_000_000,
    }
}

/// Starts the service and says where the time went.
fn start(settings: &Settings, what: &str) -> Result<App, Failure> {
    let began = Instant::now();
    let mut steps: Vec<(Step, Instant)> = Vec::new();
    let app = App::build(settings.clone(), Arc::new(SystemClock), |progress: Progress| {
        if steps.last().is_none_or(|(step, _)| *step != progress.step) {
            steps.push((progress.step, Instant::now()));
        }
        ControlFlow::Continue(())
    })?;
    let ends = steps.iter().skip(1).map(|(_, at)| *at).chain([Instant::now()]);
    let parts: Vec<String> = steps
        .iter()
        .zip(ends)
        .map(|((step, at), end)| format!("{} {:.2}", step.name(), (end - *at).as_secs_f64()))
        .collect();
    row(what, began.elapsed(), &parts.join(", "));
    let recovered = app.recovered();
    say(&format!(
        "    {} items, {} events replayed after entry {}",
        recovered.items, recovered.events, recovered.checkpoint
    ));
    Ok(app)
}

fn heavy_user(settings: &Settings) -> Result<UserKey, Failure> {
    Ok(UserHasher::open(&settings.data_dir, None)?.user_key(&UserId::new("somebody")?))
}

fn model_id() -> Result<String, Failure> {
    Ok(Manifest::builtin()?.model_id().to_owned())
}

fn model_dims() -> Result<usize, Failure> {
    Ok(Manifest::builtin()?.dims())
}

async fn put_items(store: &Store, items: usize, dims: usize, model: &str) -> Result<(), Failure> {
    let mut random = SmallRng::seed_from_u64(1);
    for first in (0..items).step_by(500) {
        let record = |n: usize, random: &mut SmallRng| -> Result<ItemRecord, Failure> {
            let mut item = Item::new(ItemId::new(format!("item-{n}"))?);
            item.title = format!("The {} of {}", WORDS[n % WORDS.len()], WORDS[n / WORDS.len() % WORDS.len()]);
            item.tags = [WORDS[n % 7], WORDS[n % 11]].map(str::to_owned).into_iter().collect();
            let vector = (0..dims).map(|_| random.random_range(-1.0_f32..1.0)).collect();
            let mut sha256 = [0; 32];
            random.fill(&mut sha256);
            let embeddings = [(model.to_owned(), Embedding::unit(vector)?)].into();
            let image = ImageRecord { sha256, width: 640, height: 360, embeddings, thumbnail: None };
            let at = Timestamp(1_700_000_000_000 + n as i64);
            Ok(ItemRecord { item, images: vec![image], created_at: at, updated_at: at })
        };
        let records = (first..items.min(first + 500)).map(|n| record(n, &mut random)).collect::<Result<_, _>>()?;
        store.put_items(records).await?;
    }
    Ok(())
}

const WORDS: [&str; 13] = [
    "sea", "mountain", "night", "garden", "train", "river", "winter", "lantern", "harbour", "letter", "island", "song",
    "road",
];

async fn append(store: &Store, args: &Args, items: usize, heavy: UserKey) -> Result<(), Failure> {
    let mut random = SmallRng::seed_from_u64(2);
    // Every thousandth event, or as many as there are, is somebody's whose past is long.
    let every = (args.events / 1000).max(1);
    let mut at_ms = 1_780_000_000_000_i64;
    for first in (0..args.events).step_by(1000) {
        let mut events = Vec::with_capacity(1000);
        for n in first..args.events.min(first + 1000) {
            at_ms += 200;
            let who = random.random_range(0..args.users);
            let (user, session) = if n % every == 0 {
                (heavy, format!("heavy-{}", n / every / 10))
            } else {
                let mut key = [0; 16];
                key[..8].copy_from_slice(&(who as u64 + 1).to_le_bytes());
                (UserKey(key), format!("s-{who}-{}", n / 200_000))
            };
            // The popular ones more often.
            let item = (random.random::<f64>().powi(2) * items as f64) as usize;
            let id = uuid::Builder::from_unix_timestamp_millis(at_ms as u64, &random.random()).into_uuid();
            events.push(Event {
                id: EventId::new(id.to_string())?,
                kind: if n % 3 == 0 { EventKind::Play } else { EventKind::Click },
                session: SessionId::new(session)?,
                user: Some(user),
                item: ItemId::new(format!("item-{item}"))?,
                occurred_at: Timestamp(at_ms),
                position_s: Some(12.5),
                watched_s: None,
                recommendation_id: None,
                value: None,
                region: Some("de".into()),
            });
        }
        store.append_events(events).await?;
    }
    Ok(())
}
