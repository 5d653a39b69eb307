//! TLS for our listeners: one configuration, and a certificate that can be renewed while we run.
//!
//! Owns reading the certificate and its key, and noticing new ones. Knows nothing about sockets, nor about who issues
//! certificates.

use crate::config;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// The certificate as it is now, and the files it came from.
#[derive(Debug)]
pub struct Certificate {
    cert_path: PathBuf,
    key_path: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    seen: Mutex<Stamps>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not a PEM file of the kind that is needed: {source}")]
    NotPem { path: PathBuf, source: pem::Error },
    #[error("{0} contains no certificate")]
    NoCertificate(PathBuf),
    #[error("{0}")]
    ReadableByOthers(String),
    #[error("the certificate {cert} and the key {key} cannot be used together: {source}")]
    Unusable { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Makes aws-lc-rs the process's one provider of TLS cryptography. Several libraries ask for the process's default,
/// so this comes before anything that opens a connection; to repeat it does nothing.
pub fn install_provider() {
    // An error only says that there is one already.
    let _already = aws_lc_rs::default_provider().install_default();
}

/// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1, presenting whatever the certificate is at each handshake.
pub fn server_config(certificate: Arc<Certificate>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl Certificate {
    /// Reads certificate and key; nothing if TLS is not configured.
    pub fn load(tls: &config::Tls) -> Result<Option<Arc<Self>>, TlsError> {
        let (Some(cert_path), Some(key_path)) = (tls.cert.clone(), tls.key.clone()) else { return Ok(None) };
        let seen = Mutex::new(Stamps::of(&cert_path, &key_path)?);
        let current = RwLock::new(Arc::new(read(&cert_path, &key_path)?));
        Ok(Some(Arc::new(Certificate { cert_path, key_path, current, seen })))
    }

    /// Takes up new files if there are any, and says whether it did. If they cannot be used the old certificate stays,
    /// and the next call tries again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        // Looked at before reading: a file that is replaced meanwhile differs from what was noted, and is read again.
        let now = Stamps::of(&self.cert_path, &self.key_path)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        let fresh = Arc::new(read(&self.cert_path, &self.key_path)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        *seen = now;
        Ok(true)
    }

    /// Looks for new files at every interval and at every SIGHUP, until told to stop.
    pub async fn watch(self: Arc<Self>, interval: Duration, stop: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hangup = Hangup::listen();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = ticks.tick() => {}
                () = hangup.received() => {}
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.reload_if_changed()).await {
                Ok(Ok(true)) => tracing::info!("a new TLS certificate is in use"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::error!(
                    error = %crate::telemetry::chain(&error),
                    "the TLS certificate has changed and cannot be used; the old one stays"
                ),
                // The runtime is stopping, and we with it.
                Err(_) => return,
            }
        }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn provider() -> Arc<CryptoProvider> {
    install_provider();
    CryptoProvider::get_default().expect("it was installed a line ago").clone()
}

/// Reads a chain and its key and makes sure that they belong together.
fn read(cert_path: &Path, key_path: &Path) -> Result<CertifiedKey, TlsError> {
    let pem_error = |path: &Path| {
        let path = path.to_owned();
        move |error| match error {
            pem::Error::Io(source) => TlsError::Unreadable { path, source },
            source => TlsError::NotPem { path, source },
        }
    };
    let chain = CertificateDer::pem_file_iter(cert_path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem_error(cert_path))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(cert_path.to_owned()));
    }
    let metadata = std::fs::metadata(key_path).map_err(unreadable(key_path))?;
    config::refuse_readable_by_others(key_path, &metadata).map_err(TlsError::ReadableByOthers)?;
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(pem_error(key_path))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Unusable {
        cert: cert_path.to_owned(),
        key: key_path.to_owned(),
        source,
    })
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> TlsError + '_ {
    |source| TlsError::Unreadable { path: path.to_owned(), source }
}

/// What a file looks like from outside; if that is unchanged, so is its content.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Stamps([Stamp; 2]);

impl Stamps {
    fn of(cert_path: &Path, key_path: &Path) -> Result<Self, TlsError> {
        Ok(Stamps([Stamp::of(cert_path)?, Stamp::of(key_path)?]))
    }
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, TlsError> {
        let metadata = std::fs::metadata(path).map_err(unreadable(path))?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode })
    }
}

/// SIGHUP, where there is such a thing.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    fn listen() -> Self {
        Hangup {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    async fn received(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConnection, SignatureScheme};
    use std::fs;

    struct Files {
        folder: tempfile::TempDir,
        tls: config::Tls,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            let tls = config::Tls { cert: Some(cert), key: Some(key), ..config::Tls::default() };
            let files = Files { folder, tls };
            files.issue("first.example");
            files
        }

        /// Writes a new certificate with its key, as a renewal would: beside the old files, then over them.
        fn issue(&self, name: &str) -> CertificateDer<'static> {
            let issued = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            self.replace(self.tls.cert.as_ref().unwrap(), &issued.cert.pem());
            self.replace(self.tls.key.as_ref().unwrap(), &issued.signing_key.serialize_pem());
            issued.cert.der().clone()
        }

        fn replace(&self, path: &Path, content: &str) {
            let draft = self.folder.path().join("draft");
            fs::write(&draft, content).unwrap();
            #[cfg(unix)]
            fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            fs::rename(draft, path).unwrap();
        }

        fn load(&self) -> Arc<Certificate> {
            Certificate::load(&self.tls).unwrap().unwrap()
        }
    }

    /// Shakes hands in memory and tells which certificate and which protocol the client was given.
    fn handshake(certificate: &Arc<Certificate>, alpn: &[u8]) -> (CertificateDer<'static>, Option<Vec<u8>>) {
        let server = server_config(certificate.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAnything))
            .with_no_client_auth();
        client.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("first.example").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            feed(&wire, |bytes| server.read_tls(bytes));
            server.process_new_packets().unwrap();
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            feed(&wire, |bytes| client.read_tls(bytes));
            client.process_new_packets().unwrap();
        }
        let shown = client.peer_certificates().unwrap()[0].clone().into_owned();
        (shown, client.alpn_protocol().map(<[u8]>::to_vec))
    }

    fn feed(mut wire: &[u8], mut read: impl FnMut(&mut dyn io::Read) -> io::Result<usize>) {
        while !wire.is_empty() {
            read(&mut wire).unwrap();
        }
    }

    #[derive(Debug)]
    struct TakesAnything;

    impl ServerCertVerifier for TakesAnything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    }

    #[test]
    fn a_renewed_certificate_is_shown_without_a_restart() {
        let files = Files::new();
        let certificate = files.load();
        let (first, protocol) = handshake(&certificate, b"h2");
        assert_eq!(protocol.as_deref(), Some(&b"h2"[..]));
        assert!(!certificate.reload_if_changed().unwrap(), "nothing has changed yet");

        let renewed = files.issue("second.example");
        assert!(certificate.reload_if_changed().unwrap());
        let (shown, protocol) = handshake(&certificate, b"http/1.1");
        assert_eq!(shown, renewed);
        assert_ne!(shown, first);
        assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]));
    }

    #[test]
    fn a_broken_renewal_leaves_the_old_certificate_until_it_is_mended() {
        let files = Files::new();
        let certificate = files.load();
        let (first, _) = handshake(&certificate, b"h2");

        files.replace(files.tls.cert.as_ref().unwrap(), "not a certificate");
        assert!(matches!(certificate.reload_if_changed(), Err(TlsError::NoCertificate(_))));
        let stranger = rcgen::generate_simple_self_signed(["stranger".to_owned()]).unwrap();
        files.replace(files.tls.cert.as_ref().unwrap(), &stranger.cert.pem());
        assert!(matches!(certificate.reload_if_changed(), Err(TlsError::Unusable { .. })), "its key is another one");
        fs::remove_file(files.tls.key.as_ref().unwrap()).unwrap();
        assert!(matches!(certificate.reload_if_changed(), Err(TlsError::Unreadable { .. })));
        assert_eq!(handshake(&certificate, b"h2").0, first);

        let renewed = files.issue("second.example");
        assert!(certificate.reload_if_changed().unwrap());
        assert_eq!(handshake(&certificate, b"h2").0, renewed);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let files = Files::new();
        let key = files.tls.key.as_ref().unwrap();
        fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let refusal = Certificate::load(&files.tls).unwrap_err().to_string();
        assert!(refusal.contains("chmod 600"), "{refusal}");
    }

    #[tokio::test]
    async fn the_watch_finds_a_renewal_by_itself_and_stops_when_told() {
        let files = Files::new();
        let certificate = files.load();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let watch = certificate.clone().watch(Duration::from_millis(5), async { drop(stopped.await) });
        let watch = tokio::spawn(watch);
        let renewed = files.issue("second.example");
        let found = async {
            while certificate.current().cert[0] != renewed {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap();
        drop(stop);
        watch.await.unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_hangup_takes_up_a_renewal_at_once() {
        // Without a listener the signal would end this process; with one it never does, whenever the watch begins.
        let _listener = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
        let files = Files::new();
        let certificate = files.load();
        let watch = certificate.clone().watch(Duration::from_secs(86_400), std::future::pending());
        let watch = tokio::spawn(watch);
        // The first may be found by the look that begins the watch. The second can only be found by a hangup.
        for name in ["second.example", "third.example"] {
            let renewed = files.issue(name);
            let found = async {
                while certificate.current().cert[0] != renewed {
                    let this = rustix::process::getpid();
                    rustix::process::kill_process(this, rustix::process::Signal::HUP).unwrap();
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), found).await.unwrap();
        }
        watch.abort();
    }
}
