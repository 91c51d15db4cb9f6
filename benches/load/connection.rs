//! How does a client speak for next to nothing? HTTP/1.1, mostly over TLS, on one kept-alive connection, written by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Failure;
use crate::server::Address;

const TIMEOUT: Duration = Duration::from_secs(120);
/// Longer heads are not those of our server.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Where the server is and how it is spoken to.
pub(crate) struct Peer {
    address: SocketAddr,
    /// Without, HTTP is spoken as it is.
    tls: Option<Arc<ClientConfig>>,
    /// The lines of every request's head.
    headers: String,
}

impl Peer {
    pub(crate) fn new(address: &Address) -> Result<Self, Failure> {
        let port = address.base.rsplit_once(':').ok_or("the address has no port")?.1.parse()?;
        let pem = address.certificate.as_deref().ok_or("the server has no certificate")?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem)?)?;
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let key = address.headers.get(http::header::AUTHORIZATION).ok_or("there is no key")?.to_str()?;
        let headers = format!("host: localhost:{port}\r\nauthorization: {key}\r\n");
        Ok(Self { address: ([127, 0, 0, 1], port).into(), tls: Some(Arc::new(tls)), headers })
    }

    /// A server that speaks plain HTTP and asks for no key.
    pub(crate) fn plain(port: u16) -> Self {
        Self { address: ([127, 0, 0, 1], port).into(), tls: None, headers: format!("host: localhost:{port}\r\n") }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: Stream,
    headers: String,
    out: Vec<u8>,
    /// What was read and belongs to the answer.
    read: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(peer: &Peer) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(peer.address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        let stream = match &peer.tls {
            Some(tls) => {
                let tls = ClientConnection::new(Arc::clone(tls), ServerName::try_from("localhost")?)?;
                Stream::Tls(Box::new(StreamOwned::new(tls, tcp)))
            }
            None => Stream::Plain(tcp),
        };
        let mut connection = Self { stream, headers: peer.headers.clone(), out: Vec::new(), read: Vec::new() };
        if peer.tls.is_some() {
            // The handshake now, not within the first request that counts.
            connection.get("/livez")?;
        }
        Ok(connection)
    }

    /// Status and body of an answer.
    pub(crate) fn get(&mut self, path: &str) -> Result<(u16, &[u8]), Failure> {
        self.out.clear();
        write!(self.out, "GET {path} HTTP/1.1\r\n{}\r\n", self.headers)?;
        self.exchange()
    }

    /// Sends JSON.
    pub(crate) fn post(&mut self, path: &str, json: &[u8]) -> Result<(u16, &[u8]), Failure> {
        self.post_as(path, "application/json", json)
    }

    /// Sends a body of any type.
    pub(crate) fn post_as(&mut self, path: &str, content_type: &str, body: &[u8]) -> Result<(u16, &[u8]), Failure> {
        self.out.clear();
        let (headers, length) = (&self.headers, body.len());
        write!(
            self.out,
            "POST {path} HTTP/1.1\r\n{headers}content-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
        )?;
        self.out.extend_from_slice(body);
        self.exchange()
    }

    fn exchange(&mut self) -> Result<(u16, &[u8]), Failure> {
        self.stream.write_all(&self.out)?;
        self.read.clear();
        let head = loop {
            let searched = self.read.len().saturating_sub(3);
            self.fill()?;
            if let Some(end) = self.read[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
                break searched + end + 4;
            }
            if self.read.len() > MAX_HEAD_BYTES {
                return Err("the answer's head is too long".into());
            }
        };
        let (status, length) = understand(&self.read[..head])?;
        while self.read.len() < head + length {
            self.fill()?;
        }
        Ok((status, self.read.get(head..head + length).unwrap_or_default()))
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let filled = self.read.len();
        self.read.resize(filled + (16 << 10), 0);
        let count = self.stream.read(&mut self.read[filled..])?;
        self.read.truncate(filled + count);
        if count == 0 { Err("the server closed the connection".into()) } else { Ok(()) }
    }
}

/// The status, and the length of the body.
fn understand(head: &[u8]) -> Result<(u16, usize), Failure> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or("no status")?;
    let value = |line: &str| -> Option<usize> {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    };
    let length = lines.find_map(value).ok_or("the answer does not say how long it is")?;
    Ok((status, length))
}
