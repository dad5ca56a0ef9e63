//! How Terraform and the provider process find each other: go-plugin's environment variables and the one line
//! on standard output that answers them.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Which major version of Terraform's plugin protocol is spoken.
pub const PROTOCOL_VERSION: u32 = 6;

/// Version of go-plugin's own handshake.
const CORE_PROTOCOL_VERSION: u32 = 1;

const COOKIE_NAME: &str = "TF_PLUGIN_MAGIC_COOKIE";
const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

/// What Terraform asks of the process, read from its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Where to listen.
    pub listen: Listen,
    /// The client certificate (PEM) that alone may connect; `None` means a plain connection.
    pub client_certificate: Option<String>,
    /// Whether the client understands a seventh field in the answer.
    asks_for_multiplexing: bool,
    /// Whether the client offered protocol 6, as far as it said.
    pub offers_our_protocol: bool,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A socket file in `directory` (default: the temporary directory), writable for `group` if one is given.
    Unix {
        /// The folder that the socket is made in.
        directory: Option<PathBuf>,
        /// Name or number of the group that may connect.
        group: Option<String>,
    },
    /// The loopback address, on the first free port of the range.
    Tcp {
        /// The ports that Terraform allows.
        ports: RangeInclusive<u16>,
    },
}

/// Why there is no handshake.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// Started by a person, not by Terraform.
    #[error(
        "This is a Terraform provider: Terraform (or OpenTofu) starts it by itself, and it does nothing on its own.\n\
         Name it under required_providers in your configuration and run `terraform init`.\n\
         Try --version, or --debug to run it under a debugger."
    )]
    NoCookie,
    /// A port variable that is no port.
    #[error("{variable} must be a port number, but is {value:?}")]
    BadPort {
        /// Name of the environment variable.
        variable: &'static str,
        /// What it held.
        value: String,
    },
}

impl Listen {
    /// Where to listen when nobody says.
    #[must_use]
    pub fn here() -> Self {
        if cfg!(unix) {
            Self::Unix {
                directory: None,
                group: None,
            }
        } else {
            Self::Tcp { ports: 0..=0 }
        }
    }
}

impl Handshake {
    /// Reads go-plugin's variables by way of `variable`.
    ///
    /// `PLUGIN_LISTEN_NETWORK=tcp` is ours: it asks for TCP where a unix socket is the default.
    ///
    /// # Errors
    /// [`HandshakeError::NoCookie`] when Terraform did not start this process, [`HandshakeError::BadPort`] for a
    /// port limit that is no number.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HandshakeError> {
        if variable(COOKIE_NAME).as_deref() != Some(COOKIE) {
            return Err(HandshakeError::NoCookie);
        }
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let port = |name: &'static str, default: u16| match given(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| HandshakeError::BadPort { variable: name, value }),
        };
        let listen = if cfg!(unix) && given("PLUGIN_LISTEN_NETWORK").as_deref() != Some("tcp") {
            Listen::Unix {
                directory: given("PLUGIN_UNIX_SOCKET_DIR").map(PathBuf::from),
                group: given("PLUGIN_UNIX_SOCKET_GROUP"),
            }
        } else {
            Listen::Tcp {
                ports: port("PLUGIN_MIN_PORT", 0)?..=port("PLUGIN_MAX_PORT", u16::MAX)?,
            }
        };
        Ok(Self {
            listen,
            client_certificate: given("PLUGIN_CLIENT_CERT"),
            asks_for_multiplexing: given("PLUGIN_MULTIPLEX_GRPC").is_some(),
            offers_our_protocol: given("PLUGIN_PROTOCOL_VERSIONS").is_none_or(|versions| {
                versions
                    .split(',')
                    .any(|version| version.trim().parse() == Ok(PROTOCOL_VERSION))
            }),
        })
    }

    /// The line (without its end) that tells Terraform where the provider listens.
    ///
    /// `certificate` is the server certificate in DER. A client that asks for multiplexing is told that there is
    /// none: it then says so itself, where silence would leave it guessing.
    #[must_use]
    pub fn answer(&self, address: &Address, certificate: Option<&[u8]>) -> String {
        let certificate = certificate.map(|der| STANDARD_NO_PAD.encode(der)).unwrap_or_default();
        let multiplexing = if self.asks_for_multiplexing { "|false" } else { "" };
        format!(
            "{CORE_PROTOCOL_VERSION}|{PROTOCOL_VERSION}|{}|{}|grpc|{certificate}{multiplexing}",
            address.network, address.address
        )
    }
}

/// Where the provider listens, in go-plugin's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `unix` or `tcp`.
    pub network: &'static str,
    /// The socket's path, or `host:port`.
    pub address: String,
}

impl Address {
    /// The value of `TF_REATTACH_PROVIDERS` by which Terraform uses a provider that runs already.
    ///
    /// `source` is the provider's source address as in `required_providers`.
    #[must_use]
    pub fn reattach(&self, source: &str, pid: u32) -> String {
        serde_json::json!({ source: {
            "Protocol": "grpc",
            "ProtocolVersion": PROTOCOL_VERSION,
            "Pid": pid,
            "Test": true,
            "Addr": { "Network": self.network, "String": self.address },
        }})
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Handshake, HandshakeError> {
        let all = [&[(COOKIE_NAME, COOKIE)], variables].concat();
        Handshake::read(|name| {
            all.iter()
                .rev()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_the_cookie_there_is_no_handshake() {
        assert_eq!(Handshake::read(|_| None), Err(HandshakeError::NoCookie));
        assert_eq!(read(&[(COOKIE_NAME, "another")]), Err(HandshakeError::NoCookie));
    }

    #[test]
    fn terraforms_variables_are_understood() {
        let handshake = read(&[
            ("PLUGIN_MIN_PORT", "10000"),
            ("PLUGIN_MAX_PORT", "25000"),
            ("PLUGIN_PROTOCOL_VERSIONS", "5,6"),
            ("PLUGIN_UNIX_SOCKET_DIR", "/run/x"),
            ("PLUGIN_CLIENT_CERT", "pem"),
        ])
        .unwrap();
        assert_eq!(
            handshake.listen,
            Listen::Unix {
                directory: Some("/run/x".into()),
                group: None
            }
        );
        assert_eq!(handshake.client_certificate.as_deref(), Some("pem"));
        assert!(handshake.offers_our_protocol);
        assert!(!read(&[("PLUGIN_PROTOCOL_VERSIONS", "5")]).unwrap().offers_our_protocol);
    }

    #[test]
    fn tcp_stays_within_the_ports_that_are_allowed() {
        let handshake = read(&[
            ("PLUGIN_LISTEN_NETWORK", "tcp"),
            ("PLUGIN_MIN_PORT", "10000"),
            ("PLUGIN_MAX_PORT", "25000"),
        ])
        .unwrap();
        assert_eq!(handshake.listen, Listen::Tcp { ports: 10000..=25000 });
        let error = read(&[("PLUGIN_LISTEN_NETWORK", "tcp"), ("PLUGIN_MIN_PORT", "many")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "PLUGIN_MIN_PORT must be a port number, but is \"many\""
        );
    }

    #[test]
    fn the_answer_is_one_line_of_fields() {
        let address = Address {
            network: "unix",
            address: "/tmp/plugin1".into(),
        };
        let plain = read(&[]).unwrap();
        assert_eq!(plain.answer(&address, None), "1|6|unix|/tmp/plugin1|grpc|");
        assert_eq!(
            plain.answer(&address, Some(&[1, 2, 3, 4])),
            "1|6|unix|/tmp/plugin1|grpc|AQIDBA"
        );
        let asking = read(&[("PLUGIN_MULTIPLEX_GRPC", "true")]).unwrap();
        assert_eq!(asking.answer(&address, None), "1|6|unix|/tmp/plugin1|grpc||false");
    }

    #[test]
    fn reattaching_names_the_provider_and_the_socket() {
        let address = Address {
            network: "unix",
            address: "/tmp/plugin1".into(),
        };
        let value: serde_json::Value = serde_json::from_str(&address.reattach("example/thing", 7)).unwrap();
        assert_eq!(value["example/thing"]["Addr"]["String"], "/tmp/plugin1");
        assert_eq!(value["example/thing"]["Pid"], 7);
    }
}
