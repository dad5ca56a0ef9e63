//! The port that k3s' servers join through: what it answers, and who asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::{Authorities, sum};
use crate::etcd::{Etcd, Member};
use crate::{Critical, SERVER, password};

const PATIENCE: Duration = Duration::from_secs(20);

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Serves for ever. `/cacerts` stands on a port of its own without TLS, since nobody can check it before it has it: the token does.
pub fn listen(etcd: &Arc<Etcd>, password: &str, critical: &Critical) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(format!("{SERVER}/tls/{name}"));
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(read("serving.crt")?.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(read("serving.key")?.as_bytes())?;
    let configuration = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let configuration = Arc::new(configuration);
    let listener = TcpListener::bind("0.0.0.0:6443").context("port 6443")?;
    for stream in listener.incoming().flatten() {
        let (configuration, etcd, password) = (Arc::clone(&configuration), Arc::clone(etcd), password.to_owned());
        let critical = critical.clone();
        std::thread::spawn(move || {
            if let Err(error) = answer(stream, configuration, &etcd, &password, &critical) {
                eprintln!("level=info at 6443: {error:#}");
            }
        });
    }
    Ok(())
}

fn answer(
    mut stream: TcpStream,
    configuration: Arc<ServerConfig>,
    etcd: &Etcd,
    password: &str,
    critical: &Critical,
) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0u8; 1];
    stream.peek(&mut first)?;
    if first[0] == b'G' {
        let mut line = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut line)?;
        let body = Authorities::load()?.server.certificate;
        stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes())?;
        return Ok(());
    }
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(configuration)?, stream));
    let (mut request, mut authorized) = (String::new(), false);
    stream.read_line(&mut request)?;
    let expected = format!("authorization: basic {}", STANDARD.encode(format!("server:{password}")));
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        authorized |= line.trim().eq_ignore_ascii_case(&expected);
    }
    let body = match request.split(' ').nth(1) {
        _ if !authorized => None,
        Some("/v1-k3s/server-bootstrap") => Some(serde_json::to_string(&Authorities::load()?)?),
        Some("/v1-k3s/config") => Some(serde_json::to_string(critical)?),
        Some("/db/info") => Some(serde_json::to_string(&etcd.members()?)?),
        _ => None,
    };
    let head = if body.is_some() {
        "HTTP/1.0 200 OK"
    } else {
        "HTTP/1.0 401 Unauthorized"
    };
    let stream = stream.get_mut();
    stream.write_all(format!("{head}\r\n\r\n{}", body.unwrap_or_default()).as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

fn dial(url: &str) -> Result<(TcpStream, String)> {
    let place = url.trim_start_matches("https://");
    let address = place.parse().with_context(|| format!("{place:?} is no address"))?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("dialling {place}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok((
        stream,
        place.rsplit_once(':').map_or(place, |(host, _)| host).to_owned(),
    ))
}

/// The authority of the server to join, if it is the one that the token speaks of.
fn authority(url: &str, token: &str) -> Result<String> {
    let (mut stream, _) = dial(url)?;
    stream.write_all(b"GET /cacerts HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, certificate) = text.split_once("\r\n\r\n").context("no answer")?;
    let known = token.strip_prefix("K10").and_then(|token| token.split_once("::"));
    ensure!(
        known.is_some_and(|(known, _)| known == sum(certificate)),
        "level=fatal the token does not speak of this server's authority"
    );
    Ok(certificate.to_owned())
}

fn get(url: &str, path: &str, token: &str) -> Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority(url, token)?.as_bytes())?)?;
    let configuration = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (stream, host) = dial(url)?;
    let connection = ClientConnection::new(Arc::new(configuration), ServerName::try_from(host)?)?;
    let mut stream = StreamOwned::new(connection, stream);
    let basic = STANDARD.encode(format!("server:{}", password(token)));
    stream.write_all(format!("GET {path} HTTP/1.0\r\nAuthorization: Basic {basic}\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.contains(" 200 "), "{path}: {head}");
    Ok(body.to_owned())
}

/// What a joining server needs to issue certificates itself.
pub fn bootstrap(url: &str, token: &str) -> Result<Authorities> {
    let authorities: Authorities = serde_json::from_str(&get(url, "/v1-k3s/server-bootstrap", token)?)?;
    authorities.store()?;
    Ok(authorities)
}

/// k3s has nobody join whose options are not those of the server that it joins through.
pub fn compare(url: &str, token: &str, own: &Critical) -> Result<()> {
    let other: Critical = serde_json::from_str(&get(url, "/v1-k3s/config", token)?)?;
    ensure!(
        *own == other,
        "level=fatal failed to validate server configuration: critical configuration value mismatch between servers: {own:?} and {other:?}"
    );
    Ok(())
}

/// The members of the cluster to join.
pub fn members(url: &str, token: &str) -> Result<Vec<Member>> {
    Ok(serde_json::from_str(&get(url, "/db/info", token)?)?)
}
