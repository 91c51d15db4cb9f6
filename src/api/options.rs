//! How much may one request ask for? The bounds and choices of the HTTP layer.

use std::time::Duration;

/// The bounds of request bodies and lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a JSON body without images.
    pub json_bytes: usize,
    /// Bytes of one image.
    pub image_bytes: usize,
    /// Bytes of a whole body with several images (multipart, or base64 in JSON).
    pub upload_bytes: usize,
    /// Images of an item.
    pub item_images: usize,
    /// Frames of a recommendation request.
    pub frames: usize,
    /// Events of one request.
    pub events: usize,
    /// Rows of an item batch.
    pub batch_rows: usize,
    /// Bytes of one row of an item batch.
    pub batch_row_bytes: usize,
    /// Rows of an item batch that are written together; what a batch holds in memory is at most this or
    /// `upload_bytes`, whichever is reached first, and one row.
    pub batch_chunk_rows: usize,
    /// Items of one list of an answer.
    pub list_items: usize,
    /// Exports that are sent at a time.
    pub exports: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            json_bytes: 4 << 20,
            image_bytes: 16 << 20,
            upload_bytes: 64 << 20,
            item_images: 16,
            frames: 16,
            events: 1_000,
            batch_rows: 100_000,
            batch_row_bytes: 32 << 20,
            batch_chunk_rows: 64,
            list_items: 1_000,
            exports: 4,
        }
    }
}

/// The bounds and choices of live sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveOptions {
    /// Connections at a time, sockets and readers together.
    pub max_connections: usize,
    /// Connections at a time with one API key; those with its tickets count too.
    pub connections_per_key: usize,
    /// Connections at a time of one person who has a token.
    pub connections_per_user: usize,
    /// Frames of a connection that are looked at in a second; of those between, the latest counts.
    pub max_frames_per_s: f64,
    /// Lists pushed to a connection in a second.
    pub max_pushes_per_s: f64,
    /// Messages in a second, on average; twice as many may come at once.
    pub max_messages_per_s: u32,
    /// Lists are pushed when an item has moved by so many places, unless the client says otherwise.
    pub rank_change: usize,
    /// Lists are pushed when a probability has changed by this share of the larger one.
    pub probability_change: f64,
    /// Lists are made anew after so long even if nothing is heard.
    pub refresh: Duration,
    /// Time between pings.
    pub heartbeat: Duration,
    /// A client of which nothing is heard for so long is given up.
    pub idle: Duration,
    /// A client that does not read for so long is given up.
    pub write_timeout: Duration,
    /// How long a ticket is good.
    pub ticket_ttl: Duration,
    /// Tickets at a time; the oldest makes room.
    pub max_tickets: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            connections_per_key: 4_096,
            connections_per_user: 8,
            max_frames_per_s: 4.0,
            max_pushes_per_s: 4.0,
            max_messages_per_s: 40,
            rank_change: 1,
            probability_change: 0.2,
            refresh: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            write_timeout: Duration::from_secs(10),
            ticket_ttl: Duration::from_secs(30),
            max_tickets: 10_000,
        }
    }
}

/// Which web pages of other origins may read answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CorsOrigins {
    /// None.
    #[default]
    None,
    /// All of them.
    Any,
    /// These, for example `https://example.org`.
    These(Vec<String>),
}

/// The choices of the HTTP layer.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiOptions {
    /// The bounds of bodies and lists.
    pub limits: Limits,
    /// Live sessions.
    pub live: LiveOptions,
    /// How long a request may take from its head to its answer's head.
    pub request_timeout: Duration,
    /// The same for an item batch.
    pub batch_timeout: Duration,
    /// Requests worked on at a time; further ones get 503 at once.
    pub max_in_flight: usize,
    /// The limit on requests worked on at a time follows from how long they take; it does not fall below this.
    pub min_in_flight: usize,
    /// Bytes of bodies in memory at a time, over all requests; further ones get 503 at once.
    pub upload_memory_bytes: usize,
    /// Which web pages of other origins may read answers.
    pub cors: CorsOrigins,
    /// Whether every request needs a key. Without, only clients on the loopback interface are let in keyless.
    pub require_keys: bool,
    /// How far in the future an event may have occurred, in seconds: clocks differ.
    pub max_event_lead_s: f64,
    /// For how long the outcome of a readiness check is given again, as it costs an inference.
    pub readiness_reuse: Duration,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            live: LiveOptions::default(),
            request_timeout: Duration::from_secs(30),
            batch_timeout: Duration::from_secs(3_600),
            max_in_flight: 1_024,
            min_in_flight: 128,
            upload_memory_bytes: 512 << 20,
            cors: CorsOrigins::None,
            require_keys: true,
            max_event_lead_s: 300.0,
            readiness_reuse: Duration::from_secs(1),
        }
    }
}
