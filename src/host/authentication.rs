//! From a fresh socket to an authenticated session: handshake, host key, credentials. Blocks; it runs on a thread of its own.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use ssh2::{ErrorCode, KeyboardInteractivePrompt, MethodType, Prompt, Session};

use super::errors::ConnectError;
use super::known_hosts::{self, HostKey, Known, Verdict};
use super::secret::Secret;
use super::target::{Credential, Target};

/// Host key algorithms that we accept, the best first. SHA-1 and DSA are left out, as OpenSSH does since 8.8.
const HOST_KEY_ALGORITHMS: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// The server's refusals (`libssh2.h`): a credential is wrong, rather than the session broken.
const AUTHENTICATION_FAILED: i32 = -18;
const PUBLIC_KEY_UNVERIFIED: i32 = -19;

/// Handshake and authentication over `socket`, within `time` for each answer. `seen_before` is the key that this machine showed earlier
/// in this process: it may not change.
pub(super) fn establish(
    target: &Target,
    socket: UnixStream,
    time: Duration,
    seen_before: Option<&HostKey>,
) -> Result<(Session, HostKey), ConnectError> {
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
    session
        .method_pref(MethodType::HostKey, &host_key_preference(&known))
        .map_err(broken("preparing"))?;
    session.handshake().map_err(broken("shaking hands"))?;
    let key = session
        .host_key()
        .and_then(|(blob, _)| HostKey::from_blob(blob))
        .ok_or_else(|| ConnectError::Broken {
            server: server.clone(),
            step: "shaking hands",
            detail: "the host key can't be understood".to_owned(),
        })?;
    judge(target, &known, &key)?;
    authenticate(&session, target, &broken)?;
    Ok((session, key))
}

fn known_keys(target: &Target, seen_before: Option<&HostKey>) -> Result<Known, ConnectError> {
    let unusable = |detail: String| ConnectError::HostKeySource {
        server: target.to_string(),
        detail,
    };
    if let Some(key) = seen_before {
        return Ok(Known::pinned(key.clone(), "shown earlier in this run"));
    }
    if let Some(line) = target.host_keys.pinned() {
        let key = HostKey::from_line(line).ok_or_else(|| {
            unusable(format!(
                "the pinned host key is not a line like `ssh-ed25519 AAAA…`: {line}"
            ))
        })?;
        return Ok(Known::pinned(key, "the pinned host key"));
    }
    let entries = known_hosts::read(target.host_keys.known_hosts())
        .map_err(|(path, error)| unusable(format!("{} can't be read: {error}", path.display())))?;
    Ok(Known::from_entries(entries, &target.host, target.port))
}

/// The algorithms of the known keys first: a machine has several keys, and shows the one that is asked for.
fn host_key_preference(known: &Known) -> String {
    let algorithms = known.algorithms();
    let is_known = |method: &&str| {
        algorithms
            .iter()
            .any(|known| known == method || (*known == "ssh-rsa" && method.starts_with("rsa-")))
    };
    let (first, then): (Vec<&str>, Vec<&str>) = HOST_KEY_ALGORITHMS.into_iter().partition(is_known);
    [first, then].concat().join(",")
}

fn judge(target: &Target, known: &Known, key: &HostKey) -> Result<(), ConnectError> {
    let (server, seen) = (target.to_string(), Box::new(key.clone()));
    match known.judge(key) {
        Verdict::Right => Ok(()),
        Verdict::Unknown if target.host_keys.accepts_new() => Ok(()),
        Verdict::Unknown => Err(ConnectError::HostKeyUnknown { server, seen }),
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
    let mut tried = Vec::new();
    for credential in &target.credentials {
        let attempts = match credential {
            Credential::Agent { socket } => with_agent(session, &target.user, socket.as_deref()),
            Credential::PrivateKey { key, passphrase } => {
                vec![with_key(session, &target.user, key, passphrase.as_ref())]
            }
            Credential::Password(password) => with_password(session, &target.user, password),
        };
        for attempt in attempts {
            match attempt {
                Attempt::In => return Ok(()),
                Attempt::Refused(why) => tried.push(why),
                Attempt::Broken(error) => return Err(broken("authenticating")(error)),
            }
        }
    }
    let offered = match session.auth_methods(&target.user) {
        Ok("") => "nothing".to_owned(),
        Ok(methods) => methods.to_owned(),
        Err(_) if session.authenticated() => return Ok(()),
        Err(_) => "(it closed the connection before saying so)".to_owned(),
    };
    Err(ConnectError::Authentication {
        server: target.to_string(),
        tried,
        offered,
    })
}

enum Attempt {
    In,
    Refused(String),
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
            Attempt::Refused(format!("private key: can't be used ({}): {hint}", error.message()))
        }
        other => attempt("private key", other),
    }
}

fn with_agent(session: &Session, user: &str, socket: Option<&std::path::Path>) -> Vec<Attempt> {
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
        Err(error) => return vec![Attempt::Refused(format!("agent: {}", error.message()))],
    };
    if identities.is_empty() {
        return vec![Attempt::Refused("agent: it has no keys".to_owned())];
    }
    let mut attempts = Vec::new();
    for identity in &identities {
        let result = attempt(
            &format!("agent's key \"{}\"", identity.comment()),
            agent.userauth(user, identity),
        );
        let last = !matches!(result, Attempt::Refused(_));
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
        let known = Known::pinned(HostKey::from_line(ed25519).expect("a key"), "test");
        assert!(host_key_preference(&known).starts_with("ssh-ed25519,ecdsa"));
        let mut blob = b"\0\0\0\x07ssh-rsa".to_vec();
        blob.extend([0; 8]);
        let known = Known::pinned(HostKey::from_blob(&blob).expect("a key"), "test");
        assert!(host_key_preference(&known).starts_with("rsa-sha2-512,rsa-sha2-256,ssh-ed25519"));
    }
}
