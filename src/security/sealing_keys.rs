//! Under which keys is sealed what is stored? From a setting, or else from a file that is made at the first start.
//!
//! The first key of the list is the active one, which seals new records; the others can still be read. Commands change
//! the file while the server runs; [`SealingKeys::reload_if_changed`] notices. A file that is lost or damaged is never
//! replaced by a new one: what is sealed under its keys would be lost with it.

use std::fmt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::private_file::{self, Stamp};
use super::{SecurityError, random_bytes};
use crate::domain::{SealingKey, Timestamp};

const FILE_NAME: &str = "sealing-keys";
const FORMAT: u32 = 1;
/// Sixty-four keys are less than a fifth of this.
const MAX_FILE_BYTES: u64 = 64 * 1024;
const REMARK: &str = "\
# The keys that seal what UpNext stores; the first is the active one. Without this file nobody can read the data, with
# it everybody can: keep a copy, but not beside the backups of the data. `upnext keys` changes it.
";

/// A sealing key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealingKeyInfo {
    /// The number that records name.
    pub id: u32,
    /// When it was made; not known of keys from a setting.
    pub created_at: Option<Timestamp>,
    /// Whether it seals new records.
    pub active: bool,
}

/// A sealing key that has just been made.
pub struct RotatedKey {
    /// What is known about it.
    pub info: SealingKeyInfo,
    /// What `security.sealing_keys` must become for the key to be used, if the keys come from there: a secret, and the
    /// only time that it can be read. `None` if the key is in the file already.
    pub new_setting: Option<String>,
}

impl fmt::Debug for RotatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotatedKey").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Where the sealing keys come from.
#[derive(Debug)]
pub struct SealingKeys {
    source: Source,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
enum Source {
    /// Never empty.
    Setting(Vec<SealingKey>),
    File(PathBuf),
}

/// What the file was like at two moments.
#[derive(Debug, Default)]
struct Watch {
    /// When it was last taken over, and what it held.
    loaded: Option<Stamp>,
    keys: Vec<SealingKey>,
    /// When it last could not be used (`Some(None)`: when it was not there), so that the same fault is reported once.
    refused: Option<Option<Stamp>>,
}

/// What the file holds.
struct Contents {
    /// Greater than every id that there ever was.
    next_id: u32,
    /// The active one first; never empty.
    keys: Vec<Entry>,
}

struct Entry {
    key: SealingKey,
    created_at: Timestamp,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "format")]
    _format: u32,
    next_id: u32,
    keys: Vec<WrittenKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    id: u32,
    created_at: String,
    key: String,
}

impl SealingKeys {
    /// The `configured` keys if there are any, else those in `file`, by default `sealing-keys` in the data folder `dir`.
    /// Nothing is read yet.
    pub fn new(dir: &Path, configured: &[SealingKey], file: Option<&Path>) -> Self {
        let source = if configured.is_empty() {
            Source::File(file.map_or_else(|| dir.join(FILE_NAME), Path::to_owned))
        } else {
            Source::Setting(configured.to_owned())
        };
        Self { source, watch: Mutex::default() }
    }

    /// The file that the keys are in; `None` if they are a setting.
    pub fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::Setting(_) => None,
            Source::File(file) => Some(file),
        }
    }

    /// The keys, the active one first; never none. If there is no file and nothing has been sealed yet, one key is made;
    /// if something has, that is [`SecurityError::SealingKeysMissing`].
    pub fn load(&self, sealed_data_exists: bool, now: Timestamp) -> Result<Vec<SealingKey>, SecurityError> {
        let file = match &self.source {
            Source::Setting(keys) => {
                SealingKey::check_list(keys).map_err(|e| SecurityError::SealingKeys(e.to_string()))?;
                return Ok(keys.clone());
            }
            Source::File(file) => file,
        };
        let mut watch = self.watch.lock();
        match take_over(file, &mut watch) {
            Err(SecurityError::SealingKeysMissing { .. }) if !sealed_data_exists && watch.keys.is_empty() => {
                let first = Entry { key: SealingKey::new(1, random_bytes()?), created_at: now };
                let text = Contents { next_id: 2, keys: vec![first] }.to_text(file)?;
                private_file::create(file, text.as_bytes())?;
                // Read even if it was just made: another process may have been faster.
                take_over(file, &mut watch)?;
            }
            taken => taken?,
        }
        Ok(watch.keys.clone())
    }

    /// Reads the file again if it has changed; to be called every second. Gives the keys if they are others than before.
    /// On an error the former ones stay good; the same fault is reported once.
    pub fn reload_if_changed(&self) -> Result<Option<Vec<SealingKey>>, SecurityError> {
        let Source::File(file) = &self.source else { return Ok(None) };
        let mut watch = self.watch.lock();
        let present = Stamp::of(file);
        if present.is_some() && present == watch.loaded {
            watch.refused = None;
            return Ok(None);
        }
        let told = watch.refused == Some(present);
        let before = watch.keys.clone();
        match take_over(file, &mut watch) {
            Ok(()) => Ok((watch.keys != before).then(|| watch.keys.clone())),
            Err(_) if told => Ok(None),
            Err(error) => {
                watch.refused = Some(present);
                Err(error)
            }
        }
    }

    /// The keys without their secrets, the active one first; none if there is no file yet.
    pub fn list(&self) -> Result<Vec<SealingKeyInfo>, SecurityError> {
        let keys: Vec<(u32, Option<Timestamp>)> = match &self.source {
            Source::Setting(keys) => keys.iter().map(|key| (key.id(), None)).collect(),
            Source::File(file) => {
                let keys = read(file)?.map(|contents| contents.keys).unwrap_or_default();
                keys.iter().map(|entry| (entry.key.id(), Some(entry.created_at))).collect()
            }
        };
        let info = |(at, (id, created_at))| SealingKeyInfo { id, created_at, active: at == 0 };
        Ok(keys.into_iter().enumerate().map(info).collect())
    }

    /// Makes a key, which becomes the active one, under an id that there never was. Keys that are a setting stay as they
    /// are; the answer says what the setting must become.
    pub fn rotate(&self, now: Timestamp) -> Result<RotatedKey, SecurityError> {
        let bytes = random_bytes()?;
        match &self.source {
            Source::Setting(keys) => {
                let key = SealingKey::new(next_id(keys.iter(), 1)?, bytes);
                let info = SealingKeyInfo { id: key.id(), created_at: None, active: true };
                let keys: Vec<SealingKey> = [key].into_iter().chain(keys.iter().cloned()).collect();
                room_for_one(keys.len())?;
                Ok(RotatedKey { info, new_setting: Some(SealingKey::reveal_list(&keys)) })
            }
            Source::File(file) => change(file, |contents| {
                let id = next_id(contents.keys.iter().map(|entry| &entry.key), contents.next_id)?;
                contents.keys.insert(0, Entry { key: SealingKey::new(id, bytes), created_at: now });
                room_for_one(contents.keys.len())?;
                contents.next_id = id.saturating_add(1);
                let info = SealingKeyInfo { id, created_at: Some(now), active: true };
                Ok(RotatedKey { info, new_setting: None })
            }),
        }
    }

    /// Forgets a key that is not the active one. What is still sealed under it is lost: the caller makes sure that
    /// nothing is.
    pub fn retire(&self, id: u32) -> Result<SealingKeyInfo, SecurityError> {
        let file = match &self.source {
            Source::Setting(keys) if keys.iter().any(|key| key.id() == id) => {
                let reason = format!("take key {id} out of security.sealing_keys, where it is set");
                return Err(SecurityError::SealingKeys(reason));
            }
            Source::Setting(_) => return Err(SecurityError::NoSuchSealingKey(id)),
            Source::File(file) => file,
        };
        change(file, |contents| {
            let at = contents.keys.iter().position(|entry| entry.key.id() == id);
            let at = at.ok_or(SecurityError::NoSuchSealingKey(id))?;
            if at == 0 {
                let reason = format!("key {id} is the active one; make another with `upnext keys rotate` before");
                return Err(SecurityError::SealingKeys(reason));
            }
            let entry = contents.keys.remove(at);
            Ok(SealingKeyInfo { id, created_at: Some(entry.created_at), active: false })
        })
    }
}

/// The id after all of these, and at least `lowest`.
fn next_id<'a>(keys: impl Iterator<Item = &'a SealingKey>, lowest: u32) -> Result<u32, SecurityError> {
    let highest = keys.map(SealingKey::id).max().unwrap_or(0);
    let next = highest.checked_add(1).map(|next| next.max(lowest)).filter(|next| *next < u32::MAX);
    next.ok_or(SecurityError::BadRequest("there are no ids left"))
}

fn room_for_one(keys: usize) -> Result<(), SecurityError> {
    if keys <= SealingKey::MAX_KEYS {
        return Ok(());
    }
    Err(SecurityError::BadRequest("there are too many sealing keys; retire those that nothing is sealed under"))
}

/// Reads the file; on an error `watch` is as before.
fn take_over(file: &Path, watch: &mut Watch) -> Result<(), SecurityError> {
    // Before reading: a change in between is noticed the next time.
    let loaded = Stamp::of(file);
    let contents = read(file)?.ok_or_else(|| SecurityError::SealingKeysMissing { file: file.to_owned() })?;
    let keys: Vec<SealingKey> = contents.keys.into_iter().map(|entry| entry.key).collect();
    let other = |key: &&SealingKey| watch.keys.iter().any(|known| known.id() == key.id() && known != *key);
    if let Some(key) = keys.iter().find(other) {
        // Records name the id: half of them would be sealed under one key and half under the other.
        return Err(SecurityError::bad_file(file, format!("key {} is another one than it was", key.id())));
    }
    *watch = Watch { loaded, keys, refused: None };
    Ok(())
}

/// Reads, changes and replaces the file; two commands at once take turns.
fn change<T>(file: &Path, edit: impl FnOnce(&mut Contents) -> Result<T, SecurityError>) -> Result<T, SecurityError> {
    let _turn = private_file::take_turn(file)?;
    let missing = "it is not there: the first start of the server makes it, and one that was lost must be put back";
    let mut contents = read(file)?.ok_or_else(|| SecurityError::bad_file(file, missing))?;
    let done = edit(&mut contents)?;
    private_file::replace(file, contents.to_text(file)?.as_bytes())?;
    Ok(done)
}

/// `None` if there is no file. Errors name the line but show nothing of it.
fn read(file: &Path) -> Result<Option<Contents>, SecurityError> {
    let Some(text) = private_file::read(file, MAX_FILE_BYTES)? else { return Ok(None) };
    let bad = |reason: String| SecurityError::bad_file(file, format!("{reason}; restore it from a copy"));
    let bad_line = |e: &toml::de::Error| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        bad(format!("line {} is not as it was written", before.matches('\n').count() + 1))
    };
    let table: toml::Table = text.parse().map_err(|e| bad_line(&e))?;
    match table.get("format").and_then(toml::Value::as_integer) {
        Some(format) if format == i64::from(FORMAT) => {}
        Some(format) => return Err(SecurityError::bad_file(file, format!("format {format} is not known"))),
        None => return Err(bad("it does not say its format".to_owned())),
    }
    let written: Written = toml::from_str(&text).map_err(|e| bad_line(&e))?;
    let entry = |(at, written): (usize, WrittenKey)| {
        let key = (written.id > 0).then(|| SealingKey::from_hex(written.id, &written.key)).flatten();
        let key =
            key.ok_or_else(|| bad(format!("key number {} in it has no id or not 64 hexadecimal digits", at + 1)))?;
        let created_at = parse_date(&written.created_at);
        let created_at = created_at.ok_or_else(|| bad(format!("key {} has no date in it", key.id())))?;
        Ok(Entry { key, created_at })
    };
    let entries: Vec<Entry> = written.keys.into_iter().enumerate().map(entry).collect::<Result<_, SecurityError>>()?;
    let keys: Vec<SealingKey> = entries.iter().map(|entry| entry.key.clone()).collect();
    SealingKey::check_list(&keys).map_err(|e| bad(e.to_string()))?;
    Ok(Some(Contents { next_id: written.next_id, keys: entries }))
}

impl Contents {
    fn to_text(&self, file: &Path) -> Result<String, SecurityError> {
        let mut text = format!("{REMARK}format = {FORMAT}\nnext_id = {}\n", self.next_id);
        for Entry { key, created_at } in &self.keys {
            let date = format_date(*created_at).ok_or_else(|| SecurityError::bad_file(file, "the clock is wrong"))?;
            let (id, hex) = (key.id(), key.reveal_hex());
            text.push_str(&format!("\n[[keys]]\nid = {id}\ncreated_at = \"{date}\"\nkey = \"{hex}\"\n"));
        }
        Ok(text)
    }
}

fn format_date(at: Timestamp) -> Option<String> {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).ok()?;
    date.format(&Rfc3339).ok()
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp)
}

#[cfg(test)]
mod tests;
