//! Who shows whom a certificate?

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use crate::support::{Client, Setup, run};

/// A certificate for this machine that ended long ago, and its key, in PEM.
fn expired_certificate() -> (String, String) {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A certificate for this machine and its key, in PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn write(folder: &Path, (cert, key): &(String, String)) -> (PathBuf, PathBuf) {
    let files = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&files.0, cert).unwrap();
    std::fs::write(&files.1, key).unwrap();
    files
}

#[test]
fn new_certificate_files_are_taken_over_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (certificate(), certificate());
    let (cert, key) = write(folder.path(), &old);
    let server = Setup::default()
        .with("server.tls.mode=files")
        .with(format!("server.tls.cert={}", cert.display()))
        .with(format!("server.tls.key={}", key.display()))
        .with("server.tls.reload_check_s=0.05")
        .start();
    // A client of its own for each connection: what is shown counts for new ones only.
    let livez = async |trusted: &str| {
        let http = Client::builder(trusted.as_bytes()).build().unwrap();
        let request = Client::new(server.address(), http, None).request("GET", "/livez");
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    };
    run(async {
        assert!(livez(&old.0).await && !livez(&new.0).await);
        // The certificate without its key, as a careless script leaves them for a while, changes nothing.
        std::fs::write(&cert, &new.0).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(livez(&old.0).await && !livez(&new.0).await);
        // Nor does one that has expired: no client would have it.
        write(folder.path(), &expired_certificate());
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(livez(&old.0).await && !livez(&new.0).await);
        write(folder.path(), &new);
        let mut taken_over = false;
        for _ in 0..600 {
            taken_over = livez(&new.0).await;
            if taken_over {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(taken_over && !livez(&old.0).await);
    });
}

#[test]
fn a_client_certificate_can_be_demanded() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap();
    let stranger = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let identity = |issuer: &CertifiedIssuer<'static, KeyPair>| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["viewer".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, issuer).unwrap();
        reqwest::Identity::from_pem(format!("{}{}", key.serialize_pem(), cert.pem()).as_bytes()).unwrap()
    };
    let client_ca = folder.path().join("ca.pem");
    std::fs::write(&client_ca, authority.pem()).unwrap();
    for (mode, without, with_strangers) in [("required", false, false), ("optional", true, false)] {
        let server = Setup::default()
            .with(format!("server.tls.client_ca={}", client_ca.display()))
            .with(format!("server.tls.client_auth={mode}"))
            .start();
        let trusted = std::fs::read(server.certificate()).unwrap();
        let livez = async |identity: Option<reqwest::Identity>| {
            let builder = Client::builder(&trusted);
            let builder = match identity {
                Some(identity) => builder.identity(identity),
                None => builder,
            };
            let request = Client::new(server.address(), builder.build().unwrap(), None).request("GET", "/livez");
            request.send().await.is_ok_and(|answer| answer.status() == 200)
        };
        run(async {
            assert!(livez(Some(identity(&authority))).await, "{mode}: with a good one");
            assert_eq!(livez(None).await, without, "{mode}: without one");
            assert_eq!(livez(Some(identity(&stranger))).await, with_strangers, "{mode}: with somebody else's");
        });
    }
}
