//! From a fresh socket to an authenticated session: handshake, host key, credentials. Blocks; it runs on a thread of its own.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use ssh2::{ErrorCode, KeyboardInteractivePrompt, MethodType, Prompt, Session};

use super::errors::ConnectError;
use super::identity::Identity;
use super::known_hosts::{self, HostKey, Known, Verdict};
use super::methods;
use super::said::one_line;
use super::secret::Secret;
use super::target::{Credential, Target};

/// The server's refusals (`libssh2.h`): a credential is wrong, rather than the session broken.
const AUTHENTICATION_FAILED: i32 = -18;
const PUBLIC_KEY_UNVERIFIED: i32 = -19;
/// libssh2's word for a handshake in which both sides found no method in common, or never came to compare them.
const NO_AGREEMENT: i32 = -5;

const PINNED: &str = "the pinned host key";

/// What a machine showed in the handshake.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) key: HostKey,
    /// The lines of known_hosts files that could have said which key is right, and can't be used. Empty where the key is known.
    pub(super) unused: Vec<String>,
}

/// Why there is no session.
pub(super) struct Refusal {
    pub(super) error: ConnectError,
    /// Whether the methods of both sides may have nothing in common.
    pub(super) disagrees: bool,
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        Self {
            error,
            disagrees: false,
        }
    }
}

/// Handshake and authentication over `socket`, within `time` for each answer. `seen_before` is the key that this machine showed earlier
/// in this process: it may not change.
pub(super) fn establish(
    target: &Target,
    socket: UnixStream,
    time: Duration,
    seen_before: Option<&HostKey>,
) -> Result<(Session, Shown), Refusal> {
    let server = target.to_string();
    let known = known_keys(target, seen_before)?;
    let broken = |step: &'static str| {
        let server = server.clone();
        move |error: ssh2::Error| match error.code() {
            ErrorCode::Session(-9 | -30) => ConnectError::TimedOut {
                server,
                step,
                waited: time,
            },
            _ => ConnectError::Broken {
                server,
                step,
                detail: error.message().to_owned(),
            },
        }
    };
    let mut session = Session::new().map_err(broken("preparing"))?;
    session.set_tcp_stream(socket);
    session.set_timeout(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    let host_keys = host_key_preference(&known);
    let taken = methods::TAKEN.map(|(kind, taken)| (kind, taken.join(",")));
    for (kind, taken) in taken.iter().chain([&(MethodType::HostKey, host_keys)]) {
        session.method_pref(*kind, taken).map_err(broken("preparing"))?;
    }
    session.handshake().map_err(|error| Refusal {
        disagrees: error.code() == ErrorCode::Session(NO_AGREEMENT),
        error: broken("shaking hands")(error),
    })?;
    let key = session
        .host_key()
        .and_then(|(blob, _)| HostKey::from_blob(blob))
        .ok_or_else(|| ConnectError::Broken {
            server: server.clone(),
            step: "shaking hands",
            detail: "the host key can't be understood".to_owned(),
        })?;
    // Before this, nothing that is secret is sent.
    let unused = judge(target, &known, &key)?;
    fits_pin(target, &key)?;
    authenticate(&session, target, &broken)?;
    Ok((session, Shown { key, unused }))
}

/// What is known of the machine's keys. The known_hosts files are read for a pinned key too: they may revoke it.
fn known_keys(target: &Target, seen_before: Option<&HostKey>) -> Result<Known, ConnectError> {
    let unusable = |detail: String| ConnectError::HostKeySource {
        server: target.to_string(),
        detail,
    };
    let entries = known_hosts::read(target.host_keys.known_hosts())
        .map_err(|(path, error)| unusable(format!("{} can't be read: {error}", path.display())))?;
    let known = Known::from_entries(entries, &target.host, target.port).map_err(|error| unusable(error.to_string()))?;
    if let Some(key) = seen_before {
        return Ok(known.pinned(key.clone(), "shown earlier in this run"));
    }
    Ok(match pinned_key(target)? {
        Some(key) => known.pinned(key, PINNED),
        None => known,
    })
}

fn pinned_key(target: &Target) -> Result<Option<HostKey>, ConnectError> {
    let parse = |line| {
        HostKey::from_line(line).ok_or_else(|| ConnectError::HostKeySource {
            server: target.to_string(),
            detail: format!("the pinned host key is not a line like `ssh-ed25519 AAAA…`: {line}"),
        })
    };
    target.host_keys.pinned().map(parse).transpose()
}

/// Whether a machine that showed `key` is the one whose key is pinned, if one is.
pub(super) fn fits_pin(target: &Target, key: &HostKey) -> Result<(), ConnectError> {
    match pinned_key(target)? {
        Some(pinned) => judge(target, &Known::default().pinned(pinned, PINNED), key).map(drop),
        None => Ok(()),
    }
}

/// The algorithms of the known keys first: a machine has several keys, and shows the one that is asked for.
fn host_key_preference(known: &Known) -> String {
    let algorithms = known.algorithms();
    let is_known = |method: &&str| {
        algorithms
            .iter()
            .any(|known| known == method || (*known == "ssh-rsa" && method.starts_with("rsa-")))
    };
    let (first, then): (Vec<&str>, Vec<&str>) = methods::HOST_KEYS.iter().copied().partition(is_known);
    [first, then].concat().join(",")
}

/// Whether the machine may be believed; with the lines that could have said more.
fn judge(target: &Target, known: &Known, key: &HostKey) -> Result<Vec<String>, ConnectError> {
    let (server, seen) = (target.to_string(), Box::new(key.clone()));
    match known.judge(key) {
        Verdict::Right => Ok(Vec::new()),
        Verdict::Unknown { unused } if target.host_keys.accepts_new() => Ok(unused),
        Verdict::Unknown { unused } => Err(ConnectError::HostKeyUnknown { server, seen, unused }),
        Verdict::Changed { expected, known_from } => Err(ConnectError::HostKeyChanged {
            server,
            expected,
            known_from,
            seen,
        }),
        Verdict::Revoked { known_from } => Err(ConnectError::HostKeyRevoked {
            server,
            known_from,
            seen,
        }),
    }
}

/// Tries the credentials in order. What the server accepts is only asked for when all failed: it costs a round trip.
fn authenticate<F>(session: &Session, target: &Target, broken: &dyn Fn(&'static str) -> F) -> Result<(), ConnectError>
where
    F: FnOnce(ssh2::Error) -> ConnectError,
{
    let (mut tried, mut asked) = (Vec::new(), false);
    for credential in &target.credentials {
        let attempts = match credential {
            Credential::Agent { socket, only } => with_agent(session, &target.user, socket.as_deref(), only.as_deref()),
            Credential::PrivateKey { key, passphrase } => {
                vec![with_key(session, &target.user, key, passphrase.as_ref())]
            }
            Credential::Password(password) => with_password(session, &target.user, password),
        };
        for attempt in attempts {
            match attempt {
                Attempt::In => return Ok(()),
                Attempt::Refused(why) => {
                    asked = true;
                    tried.push(why);
                }
                Attempt::Unusable(why) => tried.push(why),
                Attempt::Broken(error) => return Err(broken("authenticating")(error)),
            }
        }
    }
    let offered = match session.auth_methods(&target.user) {
        Ok("") => "nothing".to_owned(),
        Ok(methods) => one_line(methods),
        Err(_) if session.authenticated() => return Ok(()),
        Err(_) => "(it closed the connection before saying so)".to_owned(),
    };
    let server = target.to_string();
    Err(match asked {
        true => ConnectError::Authentication { server, tried, offered },
        false => ConnectError::Unusable { server, tried, offered },
    })
}

enum Attempt {
    In,
    Refused(String),
    /// The server was not asked.
    Unusable(String),
    Broken(ssh2::Error),
}

fn attempt(method: &str, result: Result<(), ssh2::Error>) -> Attempt {
    match result {
        Ok(()) => Attempt::In,
        Err(error) => match error.code() {
            ErrorCode::Session(AUTHENTICATION_FAILED | PUBLIC_KEY_UNVERIFIED) => {
                Attempt::Refused(format!("{method}: refused by the server"))
            }
            ErrorCode::Session(-7 | -9 | -13 | -30 | -43) => Attempt::Broken(error),
            _ => Attempt::Refused(format!("{method}: {}", error.message())),
        },
    }
}

fn with_key(session: &Session, user: &str, key: &Secret, passphrase: Option<&Secret>) -> Attempt {
    let result = session.userauth_pubkey_memory(user, None, key.expose(), passphrase.map(Secret::expose));
    match result {
        // libssh2 says "unable to extract public key" for a wrong passphrase and for what isn't a key.
        Err(error) if matches!(error.code(), ErrorCode::Session(-16 | -48)) => {
            let hint = match passphrase {
                Some(_) => "is it a private key, and is the passphrase right?",
                None => "is it a private key, and does it need a passphrase?",
            };
            Attempt::Unusable(format!("private key: can't be used ({}): {hint}", error.message()))
        }
        other => attempt("private key", other),
    }
}

/// The agent's keys, one after the other; of those only the ones in `only`, where that is given.
fn with_agent(
    session: &Session,
    user: &str,
    socket: Option<&std::path::Path>,
    only: Option<&[Identity]>,
) -> Vec<Attempt> {
    let identities = || {
        let mut agent = session.agent()?;
        if let Some(path) = socket {
            agent.set_identity_path(path)?;
        }
        agent.connect()?;
        agent.list_identities()?;
        let identities = agent.identities()?;
        Ok::<_, ssh2::Error>((agent, identities))
    };
    let (agent, identities) = match identities() {
        Ok(found) => found,
        Err(error) => return vec![Attempt::Unusable(format!("agent: {}", error.message()))],
    };
    let is_meant = |blob: &[u8]| only.is_none_or(|only| only.iter().any(|one| one.is(blob)));
    let offered: Vec<_> = identities.iter().filter(|identity| is_meant(identity.blob())).collect();
    if offered.is_empty() {
        let why = match only {
            None => "agent: it has no keys".to_owned(),
            Some(only) => {
                let named: Vec<String> = only.iter().map(Identity::fingerprint).collect();
                format!("agent: it does not have the named key ({})", named.join(", "))
            }
        };
        return vec![Attempt::Unusable(why)];
    }
    let mut attempts = Vec::new();
    for identity in offered {
        let result = attempt(
            &format!("agent's key \"{}\"", identity.comment()),
            agent.userauth(user, identity),
        );
        let last = !matches!(result, Attempt::Refused(_) | Attempt::Unusable(_));
        attempts.push(result);
        if last {
            break;
        }
    }
    attempts
}

/// `password` first, and only when that was refused `keyboard-interactive`.
fn with_password(session: &Session, user: &str, password: &Secret) -> Vec<Attempt> {
    let first = attempt("password", session.userauth_password(user, password.expose()));
    if matches!(first, Attempt::Refused(_)) {
        vec![first, with_answers(session, user, password)]
    } else {
        vec![first]
    }
}

/// `keyboard-interactive`, the password as the answer to every hidden question.
fn with_answers(session: &Session, user: &str, password: &Secret) -> Attempt {
    struct Answers<'a>(&'a Secret);
    impl KeyboardInteractivePrompt for Answers<'_> {
        fn prompt<'a>(&mut self, _username: &str, _instructions: &str, prompts: &[Prompt<'a>]) -> Vec<String> {
            prompts
                .iter()
                .map(|prompt| {
                    if prompt.echo {
                        String::new()
                    } else {
                        self.0.expose().to_owned()
                    }
                })
                .collect()
        }
    }
    attempt(
        "keyboard-interactive",
        session.userauth_keyboard_interactive(user, &mut Answers(password)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_algorithms_come_first() {
        let ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let known = Known::default().pinned(HostKey::from_line(ed25519).expect("a key"), "test");
        assert!(host_key_preference(&known).starts_with("ssh-ed25519,ecdsa"));
        let mut blob = b"\0\0\0\x07ssh-rsa".to_vec();
        blob.extend([0; 8]);
        let known = Known::default().pinned(HostKey::from_blob(&blob).expect("a key"), "test");
        assert!(host_key_preference(&known).starts_with("rsa-sha2-512,rsa-sha2-256,ssh-ed25519"));
    }
}
