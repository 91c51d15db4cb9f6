//! What can be decided? Every setting, with its type; `config/upnext.toml` says what each is for.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::domain::{Horizons, SealingKey};

/// Everything that an operator can decide, checked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The folder for the database, keys, the development certificate and secrets.
    pub data_dir: PathBuf,
    /// Connections and requests.
    pub server: ServerSettings,
    /// Images.
    pub vision: VisionSettings,
    /// Models.
    pub inference: InferenceSettings,
    /// Search for neighbours.
    pub index: IndexSettings,
    /// Live sessions.
    pub session: SessionSettings,
    /// Connections to live sessions.
    pub live: LiveSettings,
    /// What is learned from everybody's events.
    pub collab: CollabSettings,
    /// Lists.
    pub ranking: RankingSettings,
    /// Experiments, in the order in which they are tried.
    pub experiments: Vec<ExperimentSettings>,
    /// The database.
    pub store: StoreSettings,
    /// Keys and pseudonyms.
    pub security: SecuritySettings,
    /// Logs.
    pub telemetry: TelemetrySettings,
}

/// Connections and requests.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port to listen on.
    pub bind: SocketAddr,
    /// Whether a public address without TLS or without keys is accepted.
    pub allow_insecure_public: bool,
    /// Seconds after which a request is given up.
    pub request_timeout_s: f64,
    /// Largest request body in bytes.
    pub body_limit_bytes: usize,
    /// Web origins that may call from a browser; `*` is all.
    pub cors_origins: Vec<String>,
    /// Seconds that running requests get when the server stops.
    pub drain_s: f64,
    /// Connections at a time.
    pub max_connections: usize,
    /// Requests worked on at a time.
    pub max_in_flight: usize,
    /// What that does not fall below when answers take long.
    pub min_in_flight: usize,
    /// Bytes of request bodies in memory at a time.
    pub upload_memory_bytes: usize,
    /// Encryption.
    pub tls: TlsSettings,
}

/// Encryption of connections.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Where the certificate comes from.
    pub mode: TlsMode,
    /// Certificate chain (PEM); there is one exactly when the mode is [`TlsMode::Files`].
    #[serde(deserialize_with = "empty_is_none")]
    pub cert: Option<PathBuf>,
    /// Private key (PEM); there is one exactly when the mode is [`TlsMode::Files`].
    #[serde(deserialize_with = "empty_is_none")]
    pub key: Option<PathBuf>,
    /// Signers of client certificates (PEM); there is one unless `client_auth` is [`ClientAuth::None`].
    #[serde(deserialize_with = "empty_is_none")]
    pub client_ca: Option<PathBuf>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// Seconds between looks at the files; 0 is never.
    pub reload_check_s: f64,
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Self-signed for localhost, made when there is none.
    Development,
    /// From the operator's files.
    Files,
    /// Plain HTTP.
    Off,
}

/// What is asked of a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Clients are not asked for one.
    None,
    /// One that is sent must be good.
    Optional,
    /// There must be a good one.
    Required,
}

/// Bounds on images.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionSettings {
    /// Largest upload in bytes.
    pub max_image_bytes: usize,
    /// Most pixels of an image.
    pub max_pixels: u64,
    /// Longest side in pixels.
    pub max_side_px: u32,
    /// Most memory for decoding one image, in bytes.
    pub max_decode_bytes: u64,
    /// Frames in one request, images of one item.
    pub max_images: usize,
    /// Images decoded at a time; 0 is one for each processor.
    pub decode_workers: usize,
    /// Images that may wait to be decoded.
    pub decode_queue: usize,
    /// Longer side of kept thumbnails in pixels; 0 keeps none.
    pub thumbnail_px: u32,
    /// Bytes for what is remembered of items' pictures; 0 for none.
    pub known_pictures_bytes: usize,
}

/// Models and how they run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceSettings {
    /// Name of the model's manifest.
    pub model: String,
    /// Models that look at every picture too, at most 3.
    pub also: Vec<AlsoModel>,
    /// The folder with the manifests and their models.
    pub models_dir: PathBuf,
    /// ONNX Runtime's library; `None` looks for it.
    #[serde(deserialize_with = "empty_is_none")]
    pub runtime_path: Option<PathBuf>,
    /// Execution providers, the preferred one first; at least one, no two the same.
    pub providers: Vec<Provider>,
    /// Number of the graphics device.
    pub device: u32,
    /// Sessions with a thread each; 0 suits the processors.
    pub workers: usize,
    /// Threads inside a session; 0 suits the processors.
    pub intra_threads: usize,
    /// Threads of the session for a picture that is alone; 0 suits the processors, 1 for no such session.
    pub wide_threads: usize,
    /// Pictures that may wait.
    pub queue_capacity: usize,
    /// Pictures in one run; 0 suits what runs the model.
    pub max_batch: usize,
    /// Milliseconds that a picture may wait.
    pub queue_timeout_ms: u64,
    /// What graphics devices are told.
    pub gpu: GpuSettings,
}

/// How a graphics device is used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSettings {
    /// Whether TensorRT may compute in half precision.
    pub fp16: bool,
    /// Bytes of the device's memory that one session may take; 0 for what it needs.
    pub memory_limit_bytes: usize,
    /// Where TensorRT keeps what it has compiled; `None` for a folder in the data folder.
    #[serde(deserialize_with = "empty_is_none")]
    pub cache_dir: Option<PathBuf>,
}

/// A model beside the first one: `name` or `name:weight` in the settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct AlsoModel {
    /// Name of its manifest.
    pub name: String,
    /// What it counts where the first one counts 1.
    pub weight: f32,
}

impl TryFrom<String> for AlsoModel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, weight) = text.split_once(':').unwrap_or((&text, "1"));
        match weight.trim().parse() {
            Ok(weight) if (1e-3..=1e3).contains(&weight) => Ok(Self { name: name.trim().to_owned(), weight }),
            Ok(_) | Err(_) => Err(format!("`{text}` must be `name` or `name:weight` with a weight from 0.001 to 1000")),
        }
    }
}

/// What runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The processor.
    Cpu,
    /// NVIDIA's CUDA.
    Cuda,
    /// NVIDIA's TensorRT.
    Tensorrt,
}

/// Search for neighbours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSettings {
    /// Scan or graph.
    pub kind: IndexKind,
    /// Bits of a number in memory.
    pub precision: IndexPrecision,
    /// Links of a graph node.
    pub links: usize,
    /// Neighbours considered when a node is linked.
    pub build_effort: usize,
    /// Threads that build the graph.
    pub build_threads: usize,
    /// Item ids that are learned about.
    pub max_items: usize,
}

/// How exactly the index keeps vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexPrecision {
    /// 8 bits a number.
    Int8,
    /// 16 bits a number.
    Int16,
}

/// How neighbours are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// A scan or the graph of our own, whichever is faster.
    Auto,
    /// A scan.
    Flat,
    /// A graph of the package `hnsw_rs`.
    Hnsw,
    /// The graph of our own.
    Graph,
}

/// Live sessions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// Sessions at a time.
    pub max_sessions: usize,
    /// Seconds of silence after which a session is forgotten.
    pub ttl_s: f64,
    /// Latest engagements kept of a session.
    pub max_items: usize,
    /// Latest items that count as seen.
    pub max_seen: usize,
    /// The difference, 0 to 1, up to which a frame reuses its predecessor's embedding.
    pub near_duplicate_difference: f32,
}

/// Connections to live sessions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveSettings {
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections at a time with one key and its tickets.
    pub connections_per_key: usize,
    /// Connections at a time of one person.
    pub connections_per_user: usize,
    /// Frames of a connection that are looked at in a second.
    pub max_frames_per_s: f64,
    /// Lists pushed to a connection in a second.
    pub max_pushes_per_s: f64,
    /// Messages of a connection in a second.
    pub max_messages_per_s: u32,
    /// Places that an item must move for lists to be pushed.
    pub rank_change: usize,
    /// Share by which a probability must change for lists to be pushed.
    pub probability_change: f64,
    /// Seconds after which lists are made anew.
    pub refresh_s: f64,
    /// Seconds between pings.
    pub heartbeat_s: f64,
    /// Seconds of silence after which a client is given up.
    pub idle_s: f64,
    /// Seconds for which a client may not read.
    pub write_timeout_s: f64,
    /// Seconds for which a ticket is good.
    pub ticket_ttl_s: f64,
    /// Tickets at a time.
    pub max_tickets: usize,
}

/// What is learned from everybody's events.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollabSettings {
    /// Sessions that neighbours are looked for among.
    pub sessions: usize,
    /// Latest sessions of one item that are looked at.
    pub recency_sample: usize,
    /// Sessions that vote.
    pub neighbours: usize,
    /// Latest items kept of a session.
    pub session_items: usize,
    /// Successors kept of an item.
    pub successors: usize,
    /// Half-life of transitions and co-visitations in days.
    pub half_life_days: f64,
    /// Half-lives of trending counts in minutes, rising.
    pub trending_half_lives_min: [f64; 3],
    /// Matrix factorisation.
    pub preference: PreferenceSettings,
}

/// Matrix factorisation of who turned to what.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceSettings {
    /// Whether tastes are learned.
    pub enabled: bool,
    /// Persons, and sessions of nobody known, whose items are remembered.
    pub tastes: usize,
    /// Latest items remembered of each.
    pub items_per_taste: usize,
    /// Items remembered of all together.
    pub engagements: usize,
    /// Numbers in a factor.
    pub dims: usize,
    /// Rounds of a training.
    pub iterations: usize,
    /// How strongly factors are held back.
    pub regularisation: f32,
    /// How much more those of frequent rows are, 0 to 1.
    pub regularisation_exponent: f32,
    /// What all pairs count together as not observed, where the observed ones count 1.
    pub unobserved_weight: f32,
    /// Threads that train; 0 is half the processors.
    pub threads: usize,
    /// Engagements below which nothing is trained.
    pub min_engagements: usize,
    /// Share of engagements that must be new for the next training.
    pub new_share: f64,
    /// Seconds between trainings at least.
    pub train_every_s: f64,
}

/// Lists.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingSettings {
    /// Seconds for which lists are made.
    pub horizons_s: Horizons,
    /// File with weights; `None` is the built-in ones.
    #[serde(deserialize_with = "empty_is_none")]
    pub weights: Option<PathBuf>,
    /// Items in a list when the request does not say.
    pub default_count: usize,
    /// Most items in a list.
    pub max_count: usize,
    /// Variety, 0 to 1, when the request does not say.
    pub diversity: f32,
    /// Whether items that were seen are left out when the request does not say.
    pub exclude_seen: bool,
    /// Milliseconds for candidate sources when the request does not say.
    pub deadline_ms: u64,
    /// Candidates of all sources together.
    pub max_candidates: usize,
    /// Whether trees correct the linear weights, where there are any, and are trained.
    pub trees: bool,
    /// Whether the ranking learns while it serves, and uses what it learned.
    pub learn: bool,
    /// Share of the answers that try a new item.
    pub exploration: f64,
    /// How the ranking learns.
    pub learning: LearningSettings,
    /// Candidates from each source.
    pub candidates: CandidateSettings,
}

/// How the ranking learns.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningSettings {
    /// Answers a second that are learned from, and as many moments without one.
    pub decisions_per_s: f64,
    /// Decisions that wait for their outcome.
    pub open_decisions: usize,
    /// Seconds between decisions of one session.
    pub spacing_s: f64,
    /// Seconds that late events get.
    pub grace_s: f64,
    /// Candidates kept of a decision.
    pub candidates: usize,
    /// Messages that wait to be learned from.
    pub queue_capacity: usize,
    /// Rows kept for training.
    pub examples: usize,
    /// Decisions between trainings; 0 for none but on request.
    pub train_decisions: usize,
    /// Seconds between trainings, at least.
    pub train_every_s: f64,
    /// Decisions over which live figures fade.
    pub figures_decisions: usize,
    /// How often a new item is tried.
    pub impressions: u32,
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentSettings {
    /// Its name.
    pub name: String,
    /// Its arms.
    pub arms: Vec<ArmSettings>,
}

/// What an arm does differently.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSettings {
    /// Its name.
    pub name: String,
    /// Its share of the persons, 0 to 1.
    pub share: f64,
    /// File with weights of its own.
    pub weights: Option<PathBuf>,
    /// Whether it has the weights that learn; `false` is those of the settings as they are.
    pub learned: Option<bool>,
    /// Whether it has the linear hazards alone, without the trees on top of them.
    #[serde(default)]
    pub linear: bool,
    /// Variety, 0 to 1, when the request does not say.
    pub diversity: Option<f32>,
    /// Share of the answers that try a new item.
    pub exploration: Option<f64>,
    /// Sources that are not asked.
    #[serde(default)]
    pub sources_off: Vec<String>,
}

/// Candidates from each source; 0 turns one off.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateSettings {
    /// Items that look like the frame on screen.
    pub visual: usize,
    /// Items that look like where the frames are heading.
    pub trajectory: usize,
    /// Items of sessions like this one.
    pub session: usize,
    /// Items watched together with those of this session.
    pub co_visitation: usize,
    /// Items that followed the one on screen.
    pub transition: usize,
    /// Items that people like who like what this person likes.
    pub preference: usize,
    /// Items that everybody turns to at the moment.
    pub trending: usize,
    /// Items with tags, categories or words in common.
    pub metadata: usize,
    /// New items that few people have seen.
    pub fresh: usize,
}

impl CandidateSettings {
    /// Each number with its key.
    pub fn by_key(&self) -> [(&'static str, usize); 9] {
        let &Self { visual, trajectory, session, co_visitation, transition, preference, trending, metadata, fresh } =
            self;
        [
            ("ranking.candidates.visual", visual),
            ("ranking.candidates.trajectory", trajectory),
            ("ranking.candidates.session", session),
            ("ranking.candidates.co_visitation", co_visitation),
            ("ranking.candidates.transition", transition),
            ("ranking.candidates.preference", preference),
            ("ranking.candidates.trending", trending),
            ("ranking.candidates.metadata", metadata),
            ("ranking.candidates.fresh", fresh),
        ]
    }
}

/// The database.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Memory for pages in bytes.
    pub cache_bytes: usize,
    /// Calls that may wait to be written.
    pub queue_capacity: usize,
    /// Bytes that may wait to be written.
    pub queue_bytes: usize,
    /// Records after which a commit takes no more calls in.
    pub commit_records: usize,
    /// How exactly embeddings are kept.
    pub embedding_precision: EmbeddingPrecision,
    /// Whether every start checks the whole database.
    pub check_on_open: bool,
    /// Bytes that must stay free on the disk for writes to be accepted.
    pub min_free_bytes: u64,
    /// Persons that get a key of their own.
    pub max_users: usize,
    /// Seconds between checkpoints; 0 for one at the end only.
    pub checkpoint_every_s: f64,
    /// Days that the log keeps its entries; 0 for ever.
    pub retention_days: f64,
    /// Bytes of records that the log keeps; 0 for any number.
    pub retention_bytes: u64,
}

/// How exactly embeddings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingPrecision {
    /// Two bytes a component.
    F16,
    /// Four bytes a component.
    F32,
}

/// Keys and pseudonyms.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecuritySettings {
    /// Whether requests need a key.
    pub require_keys: bool,
    /// Requests a second for a key without a limit of its own; 0 is no limit.
    pub rate_limit_per_s: u32,
    /// Requests at once; 0 is as many as in a second.
    pub rate_limit_burst: u32,
    /// Keys whose rate is kept track of.
    pub rate_limited_keys: usize,
    /// Secret under which user ids become pseudonyms; `None` is the file in the data folder.
    #[serde(deserialize_with = "empty_is_none")]
    pub user_secret: Option<UserSecret>,
    /// Keys that seal what is stored, the active one first; empty is the file.
    #[serde(deserialize_with = "sealing_keys")]
    pub sealing_keys: Vec<SealingKey>,
    /// File with those keys; `None` is the one in the data folder.
    #[serde(deserialize_with = "empty_is_none")]
    pub sealing_key_file: Option<PathBuf>,
    /// End users' tokens.
    pub tokens: TokenSettings,
}

/// End users' tokens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// A JSON Web Key Set; `None` is none.
    #[serde(deserialize_with = "empty_is_none")]
    pub jwks_file: Option<PathBuf>,
    /// Public keys in PEM.
    pub public_keys: Vec<PathBuf>,
    /// What `iss` has to be.
    pub issuer: String,
    /// What `aud` has to be or to have.
    pub audience: String,
    /// Seconds by which clocks may differ.
    pub leeway_s: f64,
    /// The claim with the age in years.
    pub age_claim: String,
    /// The claim with the region.
    pub region_claim: String,
}

/// A secret that does not print itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct UserSecret(String);

impl UserSecret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for UserSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserSecret(…)")
    }
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Form of log lines.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: String,
    /// The collector that traces are sent to (OTLP over HTTP); empty for none.
    pub traces_endpoint: String,
    /// The share of requests that are traced, 0 to 1.
    pub traces_share: f64,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// TOML has no null; an empty text stands for it.
fn empty_is_none<'de, D: Deserializer<'de>, T: From<Wrapped>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| T::from(Wrapped(text))))
}

/// `ID:KEY,ID:KEY`; an empty text is no key. What is refused is not shown.
fn sealing_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SealingKey>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(Vec::new()) } else { SealingKey::parse_list(&text).map_err(serde::de::Error::custom) }
}

/// A text on its way into a setting.
struct Wrapped(String);

impl From<Wrapped> for PathBuf {
    fn from(text: Wrapped) -> Self {
        Self::from(text.0)
    }
}

impl From<Wrapped> for UserSecret {
    fn from(text: Wrapped) -> Self {
        Self(text.0)
    }
}
