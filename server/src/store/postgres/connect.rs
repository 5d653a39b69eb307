//! Connections to PostgreSQL: TLS, limits and the role to work as.
//!
//! Knows nothing of what is done with them.

use super::address::{Address, Tls};
use super::migrations::membership_sql;
use super::{Conn, OpenError, Options};
use crate::store::open::Wall;
use diesel::ConnectionError;
use diesel_async::pooled_connection::ManagerConfig;
use futures_util::FutureExt as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio_postgres::{AsyncMessage, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What the pool does to make a connection.
pub(super) fn setup(address: Address, options: Options, runtime: Handle) -> ManagerConfig<Conn> {
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(move |_| {
        let (address, options, runtime) = (address.clone(), options.clone(), runtime.clone());
        async move {
            let client = connect(&address, &runtime).await.map_err(bad)?;
            prepare(&client, &options)
                .await
                .map_err(|error| ConnectionError::CouldntSetupConfiguration(bad_query(error)))?;
            Conn::try_from(client).await
        }
        .boxed()
    });
    // A connection that broke is noticed by its driver; asking every time would cost a round trip on every operation.
    config.recycling_method = diesel_async::pooled_connection::RecyclingMethod::Fast;
    config
}

/// A bare connection as whoever the URL says, driven by a task of its own on `runtime`.
pub(super) async fn connect(address: &Address, runtime: &Handle) -> Result<tokio_postgres::Client, OpenError> {
    connect_hearing(address, runtime, None).await
}

/// The same, and what is notified is told; the other end of `hears` ends with the connection.
pub(super) async fn connect_hearing(
    address: &Address,
    runtime: &Handle,
    hears: Option<UnboundedSender<Notification>>,
) -> Result<tokio_postgres::Client, OpenError> {
    let failed = |error: tokio_postgres::Error| OpenError::Store(super::unavailable(error));
    let client = match tls_config(&address.tls)? {
        None => {
            let (client, connection) = address.config.connect(tokio_postgres::NoTls).await.map_err(failed)?;
            drive(connection, runtime, hears);
            client
        }
        Some(tls) => {
            let (client, connection) = address.config.connect(MakeRustlsConnect::new(tls)).await.map_err(failed)?;
            drive(connection, runtime, hears);
            client
        }
    };
    Ok(client)
}

fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    runtime: &Handle,
    hears: Option<UnboundedSender<Notification>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    runtime.spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match (message, &hears) {
                (Ok(AsyncMessage::Notification(notification)), Some(hears)) => {
                    // Who does not listen any more closes the connection, too.
                    let _ = hears.send(notification);
                }
                (Ok(AsyncMessage::Notice(notice)), _) => tracing::info!(notice = notice.message(), "from the database"),
                (Ok(_), _) => {}
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection to the database ended");
                    break;
                }
            }
        }
    });
}

/// From PostgreSQL 16 on, being a member of a role and being allowed to become it are two things.
const MAY_BECOME: &str = "SELECT CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = $1) THEN pg_has_role($1, \
    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) ELSE false END";

pub(super) async fn prepare(client: &tokio_postgres::Client, options: &Options) -> Result<(), tokio_postgres::Error> {
    const TIMEOUTS: &str = "SELECT set_config('statement_timeout', $1, false), \
        set_config('idle_in_transaction_session_timeout', $1, false)";
    client.execute(TIMEOUTS, &[&options.statement_timeout.as_millis().to_string()]).await?;
    if let Some(role) = &options.role
        && client.query_one(MAY_BECOME, &[role]).await?.get(0)
    {
        client.execute("SELECT set_config('role', $1, false)", &[role]).await?;
    }
    Ok(())
}

/// Works as the server would, and asks who it is then and whether row-level security holds for it.
pub(in crate::store) async fn wall(address: &Address, options: &Options, runtime: &Handle) -> Result<Wall, OpenError> {
    const WHO: &str = "SELECT current_user::text, rolsuper OR rolbypassrls, session_user::text, \
        (SELECT relowner = r.oid FROM pg_class WHERE oid = to_regclass('tenants')), \
        has_table_privilege(to_regclass('tenants'), 'SELECT'), \
        EXISTS (SELECT FROM pg_roles WHERE rolname = 'selkie_app') FROM pg_roles r WHERE rolname = current_user";
    let failed = |error: tokio_postgres::Error| OpenError::Store(super::unavailable(error));
    let client = connect(address, runtime).await?;
    prepare(&client, options).await.map_err(failed)?;
    let row = client.query_one(WHO, &[]).await.map_err(failed)?;
    let (role, above, login) = (row.get(0), row.get(1), row.get(2));
    let (owner, may_read): (Option<bool>, Option<bool>) = (row.get(3), row.get(4));
    let sql = membership_sql(row.get(2), row.get(5));
    Ok(match (owner, may_read) {
        _ if above => Wall::Missing { role, sql },
        (Some(true), _) => Wall::Owner { role, sql },
        (Some(false), Some(true)) => Wall::Stands { role },
        (Some(false), _) => Wall::Shut { login, sql },
        (None, _) => Wall::Never,
    })
}

fn bad(error: OpenError) -> ConnectionError {
    ConnectionError::CouldntSetupConfiguration(diesel::result::Error::QueryBuilderError(Box::new(error)))
}

fn bad_query(error: tokio_postgres::Error) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(Box::new(error))
}

fn tls_config(tls: &Tls) -> Result<Option<ClientConfig>, OpenError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::Url(format!("TLS cannot be set up: {error}")))?;
    Ok(match tls {
        Tls::Never => None,
        Tls::IfOffered | Tls::AnyCertificate => Some(
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth(),
        ),
        Tls::Verified { roots } => {
            let roots = match roots {
                Some(file) => roots_in(file)?,
                None => roots_of_this_machine()?,
            };
            Some(builder.with_root_certificates(roots).with_no_client_auth())
        }
    })
}

fn roots_in(file: &Path) -> Result<RootCertStore, OpenError> {
    let not = |error: &dyn std::fmt::Display| OpenError::Url(format!("sslrootcert: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| not(&error))? {
        let certificate = certificate.map_err(|error| not(&error))?;
        roots.add(certificate).map_err(|error| not(&error))?;
    }
    if roots.is_empty() { Err(not(&"the file has no certificate")) } else { Ok(roots) }
}

fn roots_of_this_machine() -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(OpenError::Url("this machine has no root certificates; sslrootcert can name a file".into()));
    }
    Ok(roots)
}

/// Takes any certificate, as `sslmode=require` asks; the handshake is still checked against it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
