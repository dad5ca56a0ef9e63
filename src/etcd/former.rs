//! A member that runs under a service which is not this provider's: what it is, and what stands in the way of taking it over.

mod started_with;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use started_with::{Options, StartedWith};

use super::config::{check_option, default_option, owned_option};
use super::version::Version;

/// A member of a cluster that was made by other means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its data directory, relative to its working directory if it is not absolute.
    pub data_dir: String,
    /// Whether peers and clients use TLS.
    pub tls: bool,
    /// Where it listens for peers.
    pub listen_peer: Vec<Endpoint>,
    /// Where it listens for clients.
    pub listen_client: Vec<Endpoint>,
    /// Milliseconds.
    pub heartbeat_interval: u32,
    /// Milliseconds.
    pub election_timeout: u32,
    /// The certificates whose keys sign those of peers and of clients, and what it shows to clients; empty without TLS.
    pub certificates: CertificateFiles,
    /// Its other options, as the attribute `config` has them.
    pub config: BTreeMap<String, String>,
}

/// Paths on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The authority of the peers.
    pub peer_authority: String,
    /// The authority of the clients.
    pub client_authority: String,
    /// What it shows to clients.
    pub certificate: String,
    /// The key of that.
    pub key: String,
}

/// A URL's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// Takes a URL apart as etcd writes it: with a port, and without a path.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, place) = url.trim().split_once("://")?;
        let (host, port) = place.trim_end_matches('/').rsplit_once(':')?;
        Some(Self {
            tls: match scheme {
                "http" => false,
                "https" => true,
                _ => return None,
            },
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().ok()?,
        })
    }

    /// The host, if it is an address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether who listens here is reached at one of these addresses of the machine's.
    #[must_use]
    pub fn takes(&self, addresses: &[IpAddr]) -> bool {
        match self.address() {
            Some(own) => own.is_unspecified() || own.is_loopback() || addresses.contains(&own),
            None => self.host == "localhost",
        }
    }
}

/// What stands in the way of taking a member over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It is not said, or not said well, where it listens.
    #[error("{option} is {value:?}, which is no list of http or https URLs with ports, all of one kind")]
    Urls {
        /// The option.
        option: &'static str,
        /// What it is.
        value: String,
    },
    /// One with TLS, the other one without.
    #[error(
        "{} are served with TLS and {} without. This provider secures both or none; bring them to one first, member by member",
        .with, .without
    )]
    HalfSecured {
        /// Who is served with TLS.
        with: &'static str,
        /// Who is not.
        without: &'static str,
    },
    /// TLS that is not mutual, or not by files.
    #[error(
        "{option} {problem}: only TLS with certificates from files and with client certificates (client-cert-auth, \
         peer-client-cert-auth, and the trusted-ca-file of each) can be taken over. Bring the members to that first, one by one"
    )]
    Tls {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A number that is none.
    #[error("{option} is {value:?}, which is no number of milliseconds")]
    Milliseconds {
        /// The option.
        option: &'static str,
        /// What it is.
        value: String,
    },
    /// An option of which nothing could be taken over.
    #[error("it is started with {option}={value}, which can't be taken over: {why}")]
    Option {
        /// The option.
        option: String,
        /// What it is.
        value: String,
        /// Why.
        why: String,
    },
}

/// What is taken over in another form, or said by the provider itself. `strict-reconfig-check` comes on.
const TAKEN: &[&str] = &[
    "name",
    "data-dir",
    "listen-peer-urls",
    "listen-client-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "heartbeat-interval",
    "election-timeout",
    "cert-file",
    "key-file",
    "client-cert-file",
    "client-key-file",
    "client-cert-auth",
    "trusted-ca-file",
    "peer-cert-file",
    "peer-key-file",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-client-cert-auth",
    "peer-trusted-ca-file",
    "peer-skip-client-san-verification",
    "experimental-peer-skip-client-san-verification",
    "strict-reconfig-check",
    "self-signed-cert-validity",
    "discovery-fallback",
    "config-file",
];

impl Former {
    /// What the member is that was started so, with etcd's own defaults (`embed/config.go`, `NewConfig`).
    ///
    /// # Errors
    /// All that stands in the way.
    pub fn of(options: &Options, version: &Version) -> Result<Self, Vec<Obstacle>> {
        let mut obstacles = Vec::new();
        let option = |key: &str, default: &str| options.get(key).cloned().unwrap_or_else(|| default.to_owned());
        let mut urls = |key: &'static str, default: &str| {
            let value = option(key, default);
            let urls: Option<Vec<Endpoint>> = value.split(',').map(Endpoint::parse).collect();
            match urls {
                Some(urls) if urls.iter().all(|url| url.tls == urls[0].tls) => urls,
                _ => {
                    obstacles.push(Obstacle::Urls { option: key, value });
                    Vec::new()
                }
            }
        };
        let listen_peer = urls("listen-peer-urls", "http://localhost:2380");
        let listen_client = urls("listen-client-urls", "http://localhost:2379");
        let mut milliseconds = |key: &'static str, default: &str| {
            let value = option(key, default);
            value.parse().unwrap_or_else(|_| {
                obstacles.push(Obstacle::Milliseconds { option: key, value });
                0
            })
        };
        let heartbeat_interval = milliseconds("heartbeat-interval", "100");
        let election_timeout = milliseconds("election-timeout", "1000");
        let secured = |urls: &[Endpoint]| urls.first().is_some_and(|url| url.tls);
        let tls = secured(&listen_peer);
        if !listen_peer.is_empty() && !listen_client.is_empty() && tls != secured(&listen_client) {
            let (with, without) = if tls {
                ("peers", "clients")
            } else {
                ("clients", "peers")
            };
            obstacles.push(Obstacle::HalfSecured { with, without });
        }
        let mut certificates = CertificateFiles::default();
        if tls {
            let mut file = |key: &'static str, wanted: bool| {
                if wanted && !options.contains_key(key) {
                    let problem = "is not set";
                    obstacles.push(Obstacle::Tls { option: key, problem });
                }
                option(key, "")
            };
            certificates = CertificateFiles {
                peer_authority: file("peer-trusted-ca-file", true),
                client_authority: file("trusted-ca-file", true),
                certificate: file("cert-file", true),
                key: file("key-file", true),
            };
            file("peer-cert-file", true);
            for key in ["client-cert-auth", "peer-client-cert-auth"] {
                if option(key, "false") != "true" {
                    let problem = "is off";
                    obstacles.push(Obstacle::Tls { option: key, problem });
                }
            }
        }
        let mut config = BTreeMap::new();
        for (key, value) in options {
            if TAKEN.contains(&key.as_str()) || means_nothing(key, value) {
                continue;
            }
            let refuse = |why: String| Obstacle::Option {
                option: key.clone(),
                value: value.clone(),
                why,
            };
            match check_option(key, value, version) {
                _ if owned_option(key).is_some_and(|owned| {
                    obstacles.push(refuse(owned.why.to_owned()));
                    true
                }) => {}
                Err(error) => obstacles.push(refuse(error.to_string())),
                Ok(typed) if default_option(key, version).as_ref() == Some(&typed) => {}
                Ok(_) => drop(config.insert(key.clone(), value.clone())),
            }
        }
        if !obstacles.is_empty() {
            return Err(obstacles);
        }
        Ok(Self {
            data_dir: option("data-dir", &format!("{}.etcd", option("name", "default"))),
            tls,
            listen_peer,
            listen_client,
            heartbeat_interval,
            election_timeout,
            certificates,
            config,
        })
    }
}

/// Whether it is set, and to what it is anyway.
fn means_nothing(key: &str, value: &str) -> bool {
    match key {
        "proxy" => value == "off",
        "force-new-cluster" | "auto-tls" | "peer-auto-tls" => value == "false",
        // Of the old proxy, which it is not.
        _ => key.starts_with("proxy-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        text.split_whitespace()
            .filter_map(|one| one.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn of(text: &str) -> Result<Former, Vec<String>> {
        let version = Version::parse("3.5.30").unwrap();
        Former::of(&options(text), &version).map_err(|obstacles| obstacles.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_plain_member_is_taken_as_it_is() {
        let former = of("name=n1 data-dir=/var/lib/etcd/default listen-peer-urls=http://10.0.0.11:2380 proxy=off \
             listen-client-urls=http://10.0.0.11:2379,http://127.0.0.1:2379 initial-advertise-peer-urls=http://10.0.0.11:2380 \
             snapshot-count=20000 auto-compaction-retention=8h experimental-initial-corrupt-check=true heartbeat-interval=150")
        .unwrap();
        assert_eq!((former.heartbeat_interval, former.election_timeout), (150, 1000));
        assert!(!former.tls);
        let expected = [("auto-compaction-retention", "8h"), ("snapshot-count", "20000")];
        assert_eq!(
            former.config,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            "what is ours by default is no option"
        );
        let own = "10.0.0.11".parse().unwrap();
        assert!(former.listen_peer[0].takes(&[own]) && !former.listen_peer[0].takes(&["10.0.0.12".parse().unwrap()]));
        assert_eq!(of("").unwrap().data_dir, "default.etcd");
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let said = |text: &str| of(text).unwrap_err().join("\n");
        assert!(
            said("wal-dir=/fast/wal").contains("wal-dir=/fast/wal, which can't be taken over: the write-ahead log")
        );
        assert!(said("discovery=https://d/1").contains("discovery=https://d/1"));
        assert!(said("proxy=on").contains("proxy=on"));
        assert!(said("peer-auto-tls=true").contains("peer-auto-tls=true"));
        assert!(said("no-such=1").contains("no-such=1"));
        let half = said("listen-peer-urls=https://10.0.0.11:2380 peer-client-cert-auth=true");
        assert!(half.contains("peers are served with TLS and clients without"), "{half}");
        assert!(half.contains("peer-trusted-ca-file is not set"), "{half}");
        let one_way = said(
            "listen-peer-urls=https://1.2.3.4:2380 listen-client-urls=https://1.2.3.4:2379 cert-file=a key-file=b \
             trusted-ca-file=c peer-cert-file=d peer-trusted-ca-file=e peer-client-cert-auth=true",
        );
        assert!(one_way.starts_with("client-cert-auth is off"), "{one_way}");
        assert!(said("listen-peer-urls=unix://x:1").contains("listen-peer-urls is \"unix://x:1\""));
        assert!(said("listen-client-urls=http://1.1.1.1:1,https://1.1.1.1:2").contains("all of one kind"));
        assert!(said("heartbeat-interval=1s").contains("no number of milliseconds"));
    }

    #[test]
    fn urls_are_taken_apart() {
        let endpoint = Endpoint::parse("https://[2001:db8::1]:2380/").unwrap();
        assert_eq!((endpoint.tls, endpoint.port), (true, 2380));
        assert_eq!(endpoint.address(), Some("2001:db8::1".parse().unwrap()));
        assert!(Endpoint::parse("http://a").is_none() && Endpoint::parse("a:1").is_none());
        assert!(Endpoint::parse("http://0.0.0.0:1").unwrap().takes(&[]));
    }
}
