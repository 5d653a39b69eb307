//! `selkie-server healthcheck`: one request to the running server, for supervisors that can only run a command.

use super::{Context, Failure, Outcome};
use anyhow::{Context as _, anyhow, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only ask whether the process answers, not whether its database and blob store do.
    #[arg(long)]
    alive: bool,
    /// Seconds to wait for the answer.
    #[arg(long, default_value_t = 5)]
    timeout: u64,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Outcome {
    let config = context.load()?;
    let path = if arguments.alive { "/healthz" } else { "/readyz" };
    let address = reachable(config.server.listen);
    let certificate = config.tls.cert.clone();
    let timeout = Duration::from_secs(arguments.timeout.max(1));
    let asked = tokio::task::spawn_blocking(move || match certificate {
        Some(_) => connect(address, timeout).and_then(by_tls).and_then(|stream| ask(stream, path)),
        None => connect(address, timeout).and_then(|stream| ask(stream, path)),
    });
    let (status, body) = asked.await?.map_err(Failure::NotReady)?;
    if status == 200 {
        let shown = serde_json::json!({ "ready": true });
        return context.show(&shown, || format!("The server at {address} is ready."));
    }
    Err(Failure::NotReady(anyhow!("the server at {address} answers {status}: {body}")))
}

/// A server that listens everywhere can be reached here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn connect(address: SocketAddr, timeout: Duration) -> anyhow::Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address, timeout).with_context(|| format!("nobody answers at {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

fn ask(mut stream: impl Read + Write, path: &str) -> anyhow::Result<(u16, String)> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let ended = stream.take(64 * 1024).read_to_end(&mut answer);
    // A server may close a TLS connection without saying good-bye: what came before is the answer.
    if answer.is_empty() {
        ended.context("the answer broke off")?;
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    match status {
        Some(status) => Ok((status, body.trim().to_owned())),
        None => bail!("the answer is not HTTP"),
    }
}

fn by_tls(stream: TcpStream) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = CryptoProvider::get_default().context("no TLS provider is installed")?.clone();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OurOwn(provider)))
        .with_no_client_auth();
    let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream))
}

/// Any certificate will do: this asks a listener of this very machine whether it is ready, sends no secret, and the
/// certificate is for the name the world knows, not for this address.
#[derive(Debug)]
struct OurOwn(Arc<CryptoProvider>);

impl ServerCertVerifier for OurOwn {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
