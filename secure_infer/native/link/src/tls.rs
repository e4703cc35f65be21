//! Who may talk: TLS 1.3 with certificates on both sides, nothing older and nothing optional.
//!
//! Reference: RFC 8446 (TLS 1.3), RFC 5280 (certificates).
//! Requires: an authority that signs for these two parties only; web authorities are not consulted.
//! Security: both sides check chain, dates, purpose and (client) name; a fingerprint pins one
//! certificate on top. No resumption, no early data: nothing of a session can be replayed.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use sha2::{Digest, Sha256};

use crate::error::{LinkError, from_tls};
use crate::hex;

/// SHA-256 of a certificate's DER encoding.
pub type Fingerprint = [u8; 32];

/// This party's certificate and key, and whom it trusts.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authority: Arc<RootCertStore>,
    pinned: HashSet<Fingerprint>,
}

impl Credentials {
    /// Reads PEM texts: the authority's certificate(s), this party's chain, its private key.
    ///
    /// `pinned` are the fingerprints of acceptable peers; none means every peer of the authority.
    ///
    /// # Errors
    /// [`LinkError::Credentials`].
    pub fn from_pem(
        authority: &[u8],
        chain: &[u8],
        key: &[u8],
        pinned: impl IntoIterator<Item = Fingerprint>,
    ) -> Result<Self, LinkError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the authority's certificate in PEM", authority)? {
            roots
                .add(certificate)
                .map_err(|error| LinkError::Credentials {
                    expected: "an authority's certificate",
                    got: error.to_string(),
                })?;
        }
        // The reader's own words could quote the file; a key must not reach a log.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| LinkError::Credentials {
            expected: "a private key in PEM",
            got: "none that can be read".to_owned(),
        })?;
        Ok(Self {
            chain: certificates("this party's certificate in PEM", chain)?,
            key,
            authority: Arc::new(roots),
            pinned: pinned.into_iter().collect(),
        })
    }

    /// The fingerprint of this party's own certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.chain.first().map_or([0; 32], fingerprint_of)
    }

    /// Begins a connection to the developer called `name` (a host name or an address).
    pub(crate) fn connect(&self, name: &str) -> Result<rustls::Connection, LinkError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| LinkError::Credentials {
            expected: "the server's name as in its certificate",
            got: "one that is neither host name nor address".to_owned(),
        })?;
        let provider = provider();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(self.authority.clone(), provider.clone())
                .build()
                .map_err(|error| refused_authority(&error))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| from_tls(&error))?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| refused_pair(&error))?;
        config.resumption = rustls::client::Resumption::disabled();
        let connection =
            ClientConnection::new(Arc::new(config), name).map_err(|error| from_tls(&error))?;
        Ok(connection.into())
    }

    /// What every connection of a server shares.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, LinkError> {
        let provider = provider();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.authority.clone(), provider.clone())
                .build()
                .map_err(|error| refused_authority(&error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| from_tls(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| refused_pair(&error))?;
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// Checks the peer's certificate against the pinned fingerprints.
    pub(crate) fn check_pin(&self, peer: &Fingerprint) -> Result<(), LinkError> {
        if self.pinned.is_empty() || self.pinned.contains(peer) {
            return Ok(());
        }
        let mut wanted: Vec<String> = self.pinned.iter().map(|pin| hex(pin)).collect();
        wanted.sort();
        // One is the rule at a hospital; a developer's list of customers is not for the peer to read.
        let expected = if let [one] = &wanted[..] {
            one.clone()
        } else {
            "a pinned fingerprint".to_owned()
        };
        Err(LinkError::Certificate {
            code: "certificate_fingerprint",
            expected,
            got: hex(peer),
        })
    }
}

/// The server's side of a new connection.
pub(crate) fn accept(config: Arc<ServerConfig>) -> Result<rustls::Connection, LinkError> {
    Ok(ServerConnection::new(config)
        .map_err(|error| from_tls(&error))?
        .into())
}

/// The fingerprint of the peer's certificate, once the handshake is done.
pub(crate) fn peer_fingerprint(connection: &rustls::Connection) -> Result<Fingerprint, LinkError> {
    let chain = connection.peer_certificates().unwrap_or_default();
    chain
        .first()
        .map(fingerprint_of)
        .ok_or_else(|| from_tls(&rustls::Error::NoCertificatesPresented))
}

fn fingerprint_of(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate.as_ref()).into()
}

/// AES-128 first: it matches the 128 bits of everything else and is the fastest.
fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::ring;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    })
}

fn certificates(
    expected: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(LinkError::Credentials {
            expected,
            got: "none".to_owned(),
        }),
        Err(_) => Err(LinkError::Credentials {
            expected,
            got: "a damaged file".to_owned(),
        }),
    }
}

fn refused_authority(error: &impl ToString) -> LinkError {
    LinkError::Credentials {
        expected: "a usable authority",
        got: error.to_string(),
    }
}

fn refused_pair(error: &rustls::Error) -> LinkError {
    LinkError::Credentials {
        expected: "a private key that fits the certificate",
        got: error.to_string(),
    }
}
