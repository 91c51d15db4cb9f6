//! How does a test hold a live session? As a client would: a WebSocket over TLS, HTTP/1.1 upgraded.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Server, text, tls};

/// No test may fail because the machine is busy; one that waits for ever must.
const PATIENCE: Duration = Duration::from_secs(120);

/// A live session, from the client's side.
pub(crate) struct Socket(WebSocketStream<TlsStream<TcpStream>>);

/// Why a session could not be opened: the status, and the code of the problem.
pub(crate) type Refusal = (u16, String);

impl Socket {
    /// Opens `path` with the server's key.
    pub(crate) async fn open(server: &Server, path: &str) -> Self {
        Self::try_open(server, path, Some(server.key())).await.unwrap()
    }

    /// Opens `path` with this key, or none.
    pub(crate) async fn try_open(server: &Server, path: &str, key: Option<&str>) -> Result<Self, Refusal> {
        let stream = tls::connect(server.address(), server.certificate()).await;
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        if let Some(key) = key {
            request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => {
                let body: Value = serde_json::from_slice(answer.body().as_deref().unwrap_or(b"{}")).unwrap_or_default();
                Err((answer.status().as_u16(), body["code"].as_str().unwrap_or_default().to_owned()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a frame of this media time.
    pub(crate) async fn frame(&mut self, at_s: f64, picture: &[u8]) {
        self.send(Message::binary([&at_s.to_be_bytes()[..], picture].concat())).await;
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// The same, whether the server takes it or not.
    pub(crate) async fn send_anyway(&mut self, message: Message) {
        let _ = self.0.send(message).await;
    }

    /// The same; `false` if it takes longer than a moment, because the server does not read.
    pub(crate) async fn send_if_taken(&mut self, message: Message) -> bool {
        matches!(tokio::time::timeout(Duration::from_millis(20), self.0.send(message)).await, Ok(Ok(())))
    }

    /// The next message of the server; a close is `Err` with its code and reason.
    pub(crate) async fn hear(&mut self) -> Result<Value, (u16, String)> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                    Some(Ok(Message::Close(Some(close)))) => {
                        // Answers the close.
                        let _ = self.0.next().await;
                        return Err((u16::from(close.code), close.reason.to_string()));
                    }
                    Some(Ok(Message::Close(None))) | None | Some(Err(_)) => {
                        return Err((u16::from(CloseCode::Abnormal), "lost".into()));
                    }
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the server says something")
    }

    /// The next message of this type; others are passed over.
    pub(crate) async fn hear_type(&mut self, kind: &str) -> Value {
        loop {
            let message = self.hear().await.unwrap_or_else(|close| panic!("closed with {close:?}, not {kind}"));
            if text(&message["type"]) == kind {
                return message;
            }
        }
    }

    /// How the server ends it: the code of its last message, and its close.
    pub(crate) async fn hear_end(&mut self) -> (String, (u16, String)) {
        let mut last = String::new();
        loop {
            match self.hear().await {
                Ok(message) if message["type"] == "bye" => last = text(&message["code"]).to_owned(),
                Ok(_) => {}
                Err(close) => return (last, close),
            }
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        let _ = self.0.close(None).await;
    }
}
