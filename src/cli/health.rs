//! `upnext health`: is the server on this machine ready? For container health checks, so it needs no curl.

use std::time::Duration;

use clap::Args;

use super::output::line;
use super::serve::scheme;
use super::{CliError, Common, tokio_runtime};

/// Ask a server whether it is ready
#[derive(Debug, Args)]
pub(super) struct Health {
    /// The server; by default the one that these settings would start, on this machine
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl Health {
    pub(super) fn run(self, common: &Common) -> Result<(), CliError> {
        let settings = common.settings()?;
        let url = self.url.unwrap_or_else(|| {
            let mut bind = settings.server.bind;
            if bind.ip().is_unspecified() {
                bind.set_ip(if bind.is_ipv4() {
                    std::net::Ipv4Addr::LOCALHOST.into()
                } else {
                    std::net::Ipv6Addr::LOCALHOST.into()
                });
            }
            format!("{}://{bind}", scheme(&settings))
        });
        let status = tokio_runtime()?.block_on(ask(&url))?;
        line(format_args!("{url} is ready ({status})"));
        Ok(())
    }
}

async fn ask(url: &str) -> Result<reqwest::StatusCode, CliError> {
    // The provider may be set already; either way there is one afterwards.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let failed = |e: reqwest::Error| CliError::Failed(format!("{url} does not answer: {e}"));
    // Whose certificate it is does not matter: nothing secret is sent, and the certificate names the public address,
    // not this one.
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(4))
        .build()
        .map_err(failed)?;
    let answer = client.get(format!("{}/readyz", url.trim_end_matches('/'))).send().await.map_err(failed)?;
    if answer.status().is_success() {
        return Ok(answer.status());
    }
    let status = answer.status();
    let problem: serde_json::Value = answer.json().await.unwrap_or_default();
    let detail = problem["detail"].as_str().map(|detail| format!(", {detail}")).unwrap_or_default();
    Err(CliError::Failed(format!("{url} is not ready: {status}{detail}")))
}
