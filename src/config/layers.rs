//! Who has the last word on a setting? Defaults, file, environment and flags, laid over each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use toml::{Table, Value};

use super::check::check;
use super::{ConfigError, DEFAULTS, Problem, Settings, Source};

const ENVIRONMENT_PREFIX: &str = "UPNEXT__";

/// Settings that are never shown.
const SECRETS: [&str; 2] = ["security.user_secret", "security.sealing_keys"];

/// How similar a wrong name must be to a right one to be taken for it, 0 to 1.
const SIMILAR: f64 = 0.75;

/// Where settings are looked for, besides the defaults. Later fields win.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The operator's file (TOML), if any.
    pub file: Option<PathBuf>,
    /// Environment variables; those whose name begins with `UPNEXT__` count.
    pub environment: Vec<(String, String)>,
    /// `key.path=value` from the command line.
    pub overrides: Vec<String>,
}

impl std::fmt::Debug for Sources {
    /// Names only: any value may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let environment: Vec<&String> = self.environment.iter().map(|(name, _)| name).collect();
        let overrides: Vec<&str> = self.overrides.iter().filter_map(|o| o.split('=').next()).collect();
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &environment)
            .field("overrides", &overrides)
            .finish()
    }
}

impl Sources {
    /// The environment of this process, with a file and overrides from its command line. A variable that is not
    /// Unicode is read as far as it is.
    pub fn from_process(file: Option<PathBuf>, overrides: Vec<String>) -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        Self { file, environment, overrides }
    }
}

/// Settings, and where each came from.
#[derive(Clone)]
pub struct Loaded {
    /// The settings, checked.
    pub settings: Settings,
    table: Table,
    origins: Origins,
}

impl std::fmt::Debug for Loaded {
    /// Without the table, in which secrets stand in the clear.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("settings", &self.settings).field("origins", &self.origins).finish()
    }
}

/// Who gave a setting its value; one that is missing has its default.
pub(super) type Origins = BTreeMap<String, Source>;

impl Settings {
    /// Lays `sources` over the defaults and checks the result. Reports everything that is wrong at once, as far as it
    /// can be seen.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::new()?;
        layers.add_file(sources);
        layers.add_environment(sources);
        layers.add_overrides(sources);
        layers.finish()
    }

    /// The defaults alone.
    pub fn defaults() -> Result<Self, ConfigError> {
        Self::load(&Sources::default()).map(|loaded| loaded.settings)
    }
}

impl Loaded {
    /// Every setting as TOML, with a remark at those that are not the default; secrets are hidden.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        self.describe_table(&self.table, "", &mut text);
        text
    }

    /// Where the value of a setting (`server.bind`) comes from.
    pub fn origin(&self, key: &str) -> &Source {
        self.origins.get(key).unwrap_or(&Source::Default)
    }

    fn describe_table(&self, table: &Table, prefix: &str, text: &mut String) {
        for (name, value) in table {
            if value.is_table() {
                continue;
            }
            let key = format!("{prefix}{name}");
            let hidden = SECRETS.contains(&key.as_str()) && value.as_str() != Some("");
            let shown = if hidden { "\"(hidden)\"".to_owned() } else { value.to_string() };
            // Writing to a string cannot fail.
            let _ = match self.origins.get(&key) {
                Some(origin) => writeln!(text, "{name} = {shown} # from {origin}"),
                None => writeln!(text, "{name} = {shown}"),
            };
        }
        for (name, value) in table {
            if let Value::Table(inner) = value {
                let _ = writeln!(text, "\n[{prefix}{name}]");
                self.describe_table(inner, &format!("{prefix}{name}."), text);
            }
        }
    }
}

/// The settings while they are being put together.
struct Layers {
    defaults: Table,
    merged: Table,
    origins: Origins,
    problems: Vec<Problem>,
}

impl Layers {
    fn new() -> Result<Self, ConfigError> {
        let defaults: Table = DEFAULTS.parse().map_err(|e: toml::de::Error| ConfigError {
            problems: vec![Problem::File { file: "the defaults".into(), reason: e.message().to_owned() }],
        })?;
        Ok(Self { merged: defaults.clone(), defaults, origins: Origins::new(), problems: Vec::new() })
    }

    fn add_file(&mut self, sources: &Sources) {
        let Some(file) = &sources.file else { return };
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) => return self.problems.push(Problem::File { file: file.clone(), reason: e.to_string() }),
        };
        match text.parse::<Table>() {
            Ok(table) => self.add_table(&table, "", &Source::File(file.clone())),
            Err(e) => {
                // Not the whole error: it quotes the line, which may hold a secret.
                let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                let reason = format!("line {line}: {}", e.message());
                self.problems.push(Problem::File { file: file.clone(), reason });
            }
        }
    }

    fn add_table(&mut self, table: &Table, prefix: &str, from: &Source) {
        for (name, value) in table {
            self.set(&format!("{prefix}{name}"), value.clone(), from.clone());
        }
    }

    fn add_environment(&mut self, sources: &Sources) {
        for (name, text) in &sources.environment {
            if let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                let key = path.to_lowercase().replace("__", ".");
                self.set_text(&key, text, Source::Environment(name.clone()));
            }
        }
    }

    fn add_overrides(&mut self, sources: &Sources) {
        for text in &sources.overrides {
            match text.split_once('=') {
                Some((key, value)) => self.set_text(key.trim(), value.trim(), Source::Flag),
                // Without a `=` there is no telling which part is a secret.
                None => self.problems.push(Problem::Override(text.chars().take(40).collect())),
            }
        }
    }

    /// Reads `text` as a value of the type that the setting has.
    fn set_text(&mut self, key: &str, text: &str, from: Source) {
        let value = match find(&self.defaults, key) {
            Some(Value::String(_)) => {
                parse_value(text).filter(Value::is_str).unwrap_or_else(|| Value::String(text.to_owned()))
            }
            Some(Value::Array(_)) => parse_value(text).filter(Value::is_array).unwrap_or_else(|| {
                let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
                Value::Array(entries.map(|e| parse_value(e).unwrap_or_else(|| Value::String(e.to_owned()))).collect())
            }),
            _ => parse_value(text).unwrap_or_else(|| Value::String(text.to_owned())),
        };
        self.set(key, value, from);
    }

    fn set(&mut self, key: &str, value: Value, from: Source) {
        let Some(default) = find(&self.defaults, key) else {
            let nearest = nearest(&self.defaults, key);
            return self.problems.push(Problem::Unknown { key: key.to_owned(), from, nearest });
        };
        if let (Value::Table(inner), Value::Table(_)) = (&value, default) {
            return self.add_table(inner, &format!("{key}."), &from);
        }
        match fit(value, default) {
            Ok(value) => {
                if let Some(place) = find_mut(&mut self.merged, key) {
                    *place = value;
                    self.origins.insert(key.to_owned(), from);
                }
            }
            Err(found) => {
                let expected = type_name(default);
                self.problems.push(Problem::Type { key: key.to_owned(), from, expected, found });
            }
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        let origin = |origins: &Origins, key: &str| origins.get(key).cloned().unwrap_or(Source::Default);
        let settings: Option<Settings> = match serde_path_to_error::deserialize(Value::Table(self.merged.clone())) {
            Ok(settings) => Some(settings),
            Err(e) => {
                // The path may end inside a list (`providers[1]`); the setting is what comes before.
                let path = e.path().to_string();
                let key = path.split('[').next().unwrap_or_default().to_owned();
                let reason = format!("cannot be used: {}", e.inner().message());
                self.problems.push(Problem::Value { from: origin(&self.origins, &key), key, reason });
                None
            }
        };
        if let Some(settings) = &settings {
            for (key, reason) in check(settings) {
                self.problems.push(Problem::Value { key: key.to_owned(), from: origin(&self.origins, key), reason });
            }
        }
        match settings {
            Some(settings) if self.problems.is_empty() => {
                Ok(Loaded { settings, table: self.merged, origins: self.origins })
            }
            _ => Err(ConfigError { problems: self.problems }),
        }
    }
}

/// One value in TOML's own notation, if it is one.
fn parse_value(text: &str) -> Option<Value> {
    // A line break would let a value bring other settings along.
    if text.contains(['\n', '\r']) {
        return None;
    }
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

/// `value` as the type of `default`: a whole number may stand for a broken one; else the name of the wrong type.
fn fit(value: Value, default: &Value) -> Result<Value, &'static str> {
    match (value, default) {
        (Value::Integer(whole), Value::Float(_)) => Ok(Value::Float(whole as f64)),
        (value @ Value::Table(_), _) => Err(type_name(&value)),
        (value, default) if value.same_type(default) => Ok(value),
        (value, _) => Err(type_name(&value)),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => find(table.get(section)?.as_table()?, rest),
    }
}

fn find_mut<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, rest)) => find_mut(table.get_mut(section)?.as_table_mut()?, rest),
    }
}

/// The known key most like `key`: by the whole path, or by the last name alone when that was put in the wrong section.
fn nearest(defaults: &Table, key: &str) -> Option<String> {
    let mut known = Vec::new();
    collect_keys(defaults, "", &mut known);
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .into_iter()
        .map(|candidate| {
            let whole = strsim::jaro_winkler(&candidate, key);
            let name = strsim::jaro_winkler(&last(&candidate), &last(key));
            (whole.max(name * 0.99), candidate)
        })
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn collect_keys(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (name, value) in table {
        keys.push(format!("{prefix}{name}"));
        if let Value::Table(inner) = value {
            collect_keys(inner, &format!("{prefix}{name}."), keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{IndexKind, Provider, TlsMode};
    use std::path::Path;

    fn sources(environment: &[(&str, &str)], overrides: &[&str]) -> Sources {
        Sources {
            file: None,
            environment: environment.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            overrides: overrides.iter().map(ToString::to_string).collect(),
        }
    }

    fn load_file(text: &str) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.toml");
        std::fs::write(&file, text).unwrap();
        Settings::load(&Sources { file: Some(file), ..Sources::default() })
    }

    fn refusal(loaded: Result<Loaded, ConfigError>) -> String {
        loaded.unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_usable_and_every_setting_is_documented() {
        let settings = Settings::defaults().unwrap();
        assert_eq!(settings.server.bind.to_string(), "127.0.0.1:8443");
        assert_eq!(settings.server.tls.cert, None);
        assert_eq!(settings.ranking.horizons_s.seconds(), [15, 30, 60]);
        // That no field of `Settings` is missing in the file follows from its having no other defaults.
        let lines: Vec<&str> = DEFAULTS.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if !line.starts_with('#') && line.contains(" = ") {
                assert!(i > 0 && lines[i - 1].starts_with("# "), "not documented: {line}");
            }
        }
    }

    #[test]
    fn every_number_says_its_unit_or_what_is_counted() {
        let documented = |unit: &str, words: &[&str]| {
            let lines: Vec<&str> = DEFAULTS.lines().collect();
            for (i, line) in lines.iter().enumerate() {
                let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
                if name.ends_with(unit) {
                    let remark: String = lines[..i].iter().rev().take_while(|l| l.starts_with('#')).copied().collect();
                    let remark = remark.to_lowercase();
                    assert!(words.iter().any(|word| remark.contains(word)), "{name}: {remark}");
                }
            }
        };
        documented("_ms", &["millisecond"]);
        documented("_bytes", &["bytes"]);
        documented("_px", &["pixels"]);
        documented("_min", &["minutes"]);
        documented("_days", &["days"]);
        documented("_s", &["second"]);
    }

    #[test]
    fn later_sources_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.toml");
        std::fs::write(&file, "data_dir = \"f\"\n[server]\ndrain_s = 1\nrequest_timeout_s = 1\n[index]\nlinks = 8")
            .unwrap();
        let loaded = Settings::load(&Sources {
            file: Some(file.clone()),
            ..sources(
                &[("UPNEXT__SERVER__DRAIN_S", "2"), ("UPNEXT__SERVER__REQUEST_TIMEOUT_S", "2.5"), ("PATH", "/bin")],
                &["server.drain_s=3"],
            )
        })
        .unwrap();
        let s = &loaded.settings;
        assert_eq!(s.data_dir, Path::new("f"));
        assert_eq!((s.server.drain_s, s.server.request_timeout_s, s.index.links), (3.0, 2.5, 8));
        assert_eq!(s.index.build_effort, 200);
        assert_eq!(loaded.origin("server.drain_s"), &Source::Flag);
        let variable = Source::Environment("UPNEXT__SERVER__REQUEST_TIMEOUT_S".into());
        assert_eq!(loaded.origin("server.request_timeout_s"), &variable);
        assert_eq!(loaded.origin("index.links"), &Source::File(file));
        assert_eq!(loaded.origin("index.kind"), &Source::Default);
    }

    #[test]
    fn texts_become_what_a_setting_needs() {
        let loaded = Settings::load(&sources(
            &[
                ("UPNEXT__SERVER__BIND", "[::1]:80"),
                ("UPNEXT__DATA_DIR", "123"),
                ("UPNEXT__INFERENCE__PROVIDERS", "cuda, cpu"),
                ("UPNEXT__RANKING__HORIZONS_S", "[5, 10]"),
                ("UPNEXT__SERVER__CORS_ORIGINS", ""),
                ("UPNEXT__STORE__CHECK_ON_OPEN", "false"),
                ("UPNEXT__TELEMETRY__LOG_FILTER", "\"warn\""),
            ],
            &["index.kind=flat", "collab.trending_half_lives_min=1,2.5,4", "ranking.candidates={visual = 7}"],
        ));
        let s = loaded.unwrap().settings;
        assert_eq!(s.server.bind.to_string(), "[::1]:80");
        assert_eq!(s.data_dir, Path::new("123"));
        assert_eq!(s.inference.providers, [Provider::Cuda, Provider::Cpu]);
        assert_eq!(s.ranking.horizons_s.seconds(), [5, 10]);
        assert!(s.server.cors_origins.is_empty() && !s.store.check_on_open);
        assert_eq!(s.telemetry.log_filter, "warn");
        assert_eq!(s.index.kind, IndexKind::Flat);
        assert_eq!(s.collab.trending_half_lives_min, [1.0, 2.5, 4.0]);
        assert_eq!((s.ranking.candidates.visual, s.ranking.candidates.session), (7, 80));
    }

    #[test]
    fn unknown_names_are_refused_with_a_suggestion() {
        let text = refusal(load_file("[server]\nbnid = \"127.0.0.1:1\""));
        assert!(text.contains("my.toml: there is no setting `server.bnid`; did you mean `server.bind`?"), "{text}");
        let text = refusal(load_file("drain_s = 3"));
        assert!(text.contains("did you mean `server.drain_s`?"), "{text}");
        let text = refusal(Settings::load(&sources(&[("UPNEXT__INDX__LINKS", "8")], &[])));
        assert!(text.contains("(UPNEXT__INDX__LINKS)") && text.contains("did you mean `index.links`?"), "{text}");
        let text = refusal(Settings::load(&sources(&[], &["qqqqqq=1"])));
        assert!(text.contains("the command line: there is no setting `qqqqqq`") && !text.contains("mean"), "{text}");
        let text = refusal(Settings::load(&sources(&[], &["whatever"])));
        assert!(text.contains("`whatever` is not of the form key=value"), "{text}");
    }

    #[test]
    fn wrong_types_name_the_setting_its_source_and_what_it_needs() {
        let text = refusal(load_file("[server]\nmax_connections = \"many\"\n[index]\nkind = 3\nlinks = 2.5"));
        assert!(text.contains("my.toml: `server.max_connections` must be a whole number, not a text"), "{text}");
        assert!(text.contains("`index.kind` must be a text, not a whole number"), "{text}");
        assert!(text.contains("`index.links` must be a whole number, not a number"), "{text}");
        let text = refusal(Settings::load(&sources(&[("UPNEXT__SERVER__TLS", "off")], &[])));
        assert!(text.contains("`server.tls` must be a section, not a text"), "{text}");
        let text = refusal(Settings::load(&sources(&[], &["server.bind.port=1"])));
        assert!(text.contains("there is no setting `server.bind.port`"), "{text}");
    }

    #[test]
    fn values_out_of_range_name_the_setting_and_its_source() {
        let text = refusal(Settings::load(&sources(&[], &["index.kind=tree"])));
        assert!(text.contains("the command line: `index.kind`") && text.contains("`hnsw`"), "{text}");
        let text = refusal(Settings::load(&sources(&[], &["index.links=-1"])));
        assert!(text.contains("the command line: `index.links`"), "{text}");
        let text = refusal(Settings::load(&sources(&[], &["inference.providers=cpu,gpu"])));
        assert!(text.contains("the command line: `inference.providers`"), "{text}");
        let text = refusal(Settings::load(&sources(&[], &["index.links=1000", "ranking.diversity=nan"])));
        assert!(text.contains("`index.links` must be from 4 to 128, not 1000"), "{text}");
        assert!(text.contains("`ranking.diversity` must be from 0 to 1"), "{text}");
        let text = refusal(Settings::load(&sources(&[("UPNEXT__SERVER__BIND", "localhost")], &[])));
        assert!(text.contains("(UPNEXT__SERVER__BIND): `server.bind`"), "{text}");
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_named() {
        let missing = Sources { file: Some("no/such.toml".into()), ..Sources::default() };
        assert!(refusal(Settings::load(&missing)).contains("no/such.toml: "));
        let text = refusal(load_file("[security]\nuser_secret = \"correct horse battery"));
        assert!(text.contains("my.toml: line 2: ") && !text.contains("horse"), "{text}");
    }

    #[test]
    fn secrets_are_never_shown() {
        let overrides = ["security.user_secret=correct-horse-battery", "server.tls.mode=off"];
        let secret = sources(&[("UPNEXT__SECURITY__USER_SECRET", "correct-horse-battery")], &overrides);
        assert!(!format!("{secret:?}").contains("horse"));
        let loaded = Settings::load(&secret).unwrap();
        assert_eq!(loaded.settings.security.user_secret.as_ref().unwrap().reveal(), "correct-horse-battery");
        assert_eq!(loaded.settings.server.tls.mode, TlsMode::Off);
        let text = loaded.describe();
        assert!(!text.contains("horse") && !format!("{loaded:?}").contains("horse"), "{text}");
        assert!(text.contains("user_secret = \"(hidden)\" # from the command line"), "{text}");
        assert!(text.contains("mode = \"off\" # from the command line"), "{text}");
        let short = refusal(Settings::load(&sources(&[], &["security.user_secret=horse"])));
        assert!(!short.contains("horse") && short.contains("16 characters"), "{short}");
    }

    #[test]
    fn sealing_keys_are_read_from_the_environment_and_never_shown() {
        let (first, second) = ("c0ffee00".repeat(8), "deadbeef".repeat(8));
        let load = |text: &str| Settings::load(&sources(&[("UPNEXT__SECURITY__SEALING_KEYS", text)], &[]));
        let loaded = load(&format!("2:{first}, 1:{second}")).unwrap();
        let keys = &loaded.settings.security.sealing_keys;
        assert_eq!(keys.iter().map(crate::domain::SealingKey::id).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(keys[0].bytes()[..4], [0xc0, 0xff, 0xee, 0]);
        let text = format!("{loaded:?}{}", loaded.describe());
        assert!(!text.contains("c0ffee") && !text.contains("deadbeef"), "{text}");
        assert!(text.contains("sealing_keys = \"(hidden)\" # from the environment"), "{text}");
        assert!(load("").unwrap().settings.security.sealing_keys.is_empty());

        let digits = "1234567890".repeat(6);
        let bad =
            [first.clone(), format!("2:{first}0"), format!("2:{first},2:{second}"), digits, format!("[\"{first}\"]")];
        for bad in bad {
            let text = refusal(load(&bad));
            assert!(text.contains("(UPNEXT__SECURITY__SEALING_KEYS): `security.sealing_keys`"), "{text}");
            assert!(!text.contains("c0ffee") && !text.contains("deadbeef") && !text.contains("123456"), "{text}");
        }
        let text = refusal(load_file(&format!("[security]\nsealing_keys = \"2:{first}")));
        assert!(text.contains("line 2") && !text.contains("c0ffee"), "{text}");
    }

    #[test]
    fn a_description_is_a_file_that_says_the_same() {
        let loaded = Settings::load(&sources(&[], &["index.links=8", "inference.providers=cuda"])).unwrap();
        assert_eq!(load_file(&loaded.describe()).unwrap().settings, loaded.settings);
    }

    #[test]
    fn a_value_cannot_bring_other_settings_along() {
        let text =
            refusal(Settings::load(&sources(&[("UPNEXT__INDEX__LINKS", "8\n[security]\nrequire_keys=false")], &[])));
        assert!(text.contains("`index.links` must be a whole number, not a text"), "{text}");
    }
}
