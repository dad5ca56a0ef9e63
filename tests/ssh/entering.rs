//! Getting in: host keys, credentials, root.

use std::time::{Duration, Instant};

use terraform_provider_etcd::host::{
    ConnectError, ConnectOptions, Credential, HostKeyPolicy, RootError, RunError, Script, Secret, Sudo, UploadOutcome,
};

use crate::sshd::{PASSWORD, Sshd, User, add_key_with_passphrase, free_port, hashed_known_hosts};
use crate::{connect, hosts, says, upload_of};

#[tokio::test]
async fn host_keys() {
    let server = Sshd::start("");
    let mut target = server.target();
    // Unknown: the key is shown, and accepted by another policy.
    target.host_keys = HostKeyPolicy::Strict {
        known_hosts: vec![server.path("not-there")],
        pinned: None,
    };
    let error = connect(&target).await.expect_err("unknown");
    assert!(
        matches!(&error, ConnectError::HostKeyUnknown { seen, .. } if seen.fingerprint() == server.fingerprint("ed25519")),
        "{error}"
    );
    target.host_keys = HostKeyPolicy::AcceptNew {
        known_hosts: Vec::new(),
        pinned: None,
    };
    connect(&target).await.expect("accepted");
    // Pinned: only that is right, and never retried.
    let other = Sshd::start("");
    for policy in [
        HostKeyPolicy::Strict {
            known_hosts: Vec::new(),
            pinned: Some(other.host_key_line("ed25519")),
        },
        HostKeyPolicy::AcceptNew {
            known_hosts: Vec::new(),
            pinned: Some(other.host_key_line("ecdsa")),
        },
    ] {
        target.host_keys = policy;
        let started = Instant::now();
        let error = hosts()
            .connect(
                &target,
                ConnectOptions {
                    timeout: Duration::from_secs(20),
                    retry: true,
                },
            )
            .await
            .expect_err("changed");
        assert!(
            matches!(&error, ConnectError::HostKeyChanged { seen, .. } if error.to_string().contains(&seen.fingerprint())),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(15));
    }
    // In a hashed file, where only the key that the server wouldn't show by itself is known.
    for kind in ["ed25519", "ecdsa"] {
        target.host_keys = HostKeyPolicy::Strict {
            known_hosts: vec![hashed_known_hosts(&server, kind)],
            pinned: None,
        };
        assert_eq!(
            connect(&target).await.expect("known").host_key().line(),
            server.host_key_line(kind)
        );
    }
    let line = format!("@revoked * {}\n", server.host_key_line("ed25519"));
    std::fs::write(server.path("known_hosts"), line).expect("written");
    target.host_keys = HostKeyPolicy::AcceptNew {
        known_hosts: vec![server.path("known_hosts")],
        pinned: None,
    };
    assert!(matches!(
        connect(&target).await,
        Err(ConnectError::HostKeyRevoked { .. })
    ));
}

#[tokio::test]
async fn credentials() {
    let server = Sshd::start("PasswordAuthentication yes");
    let other = Sshd::start("");
    let mut target = server.target();
    target.credentials = vec![
        other.user_key(),
        Credential::Agent {
            socket: Some(server.path("no-agent")),
            only: None,
        },
    ];
    let error = connect(&target).await.expect_err("refused").to_string();
    assert!(
        error.contains("private key: refused")
            && error.contains("agent:")
            && error.contains("accepts: publickey,password"),
        "{error}"
    );
    target.credentials = Vec::new();
    assert!(
        connect(&target)
            .await
            .expect_err("refused")
            .to_string()
            .contains("no credentials were given")
    );
    target.credentials = vec![Credential::PrivateKey {
        key: Secret::new("nonsense"),
        passphrase: None,
    }];
    // No waiting makes a text a key: the patience for new machines does not apply.
    let began = Instant::now();
    let patient = ConnectOptions {
        timeout: Duration::from_secs(60),
        retry: true,
    };
    let error = hosts()
        .connect(&target, patient)
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("is it a private key") && error.contains("nothing to log in with"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = Secret::new(add_key_with_passphrase(&server, kind, kind, "open sesame"));
        target.credentials = vec![Credential::PrivateKey {
            key: key.clone(),
            passphrase: None,
        }];
        assert!(connect(&target).await.is_err(), "{kind} without passphrase");
        target.credentials = vec![
            other.user_key(),
            Credential::PrivateKey {
                key,
                passphrase: Some(Secret::new("open sesame")),
            },
        ];
        connect(&target).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    let user = User::create("pw", "");
    target.user = user.name.clone();
    target.credentials = vec![Credential::Password(Secret::new("wrong"))];
    assert!(matches!(
        connect(&target).await,
        Err(ConnectError::Authentication { .. })
    ));
    target.credentials = vec![Credential::Password(Secret::new(PASSWORD))];
    connect(&target).await.expect("the password is right");
}

#[tokio::test]
async fn becoming_root() {
    let server = Sshd::start("");
    let free = User::create("free", "USER ALL=(ALL) NOPASSWD: ALL\n");
    let asked = User::create("asked", "USER ALL=(ALL) ALL\nDefaults:USER timestamp_timeout=0\n");
    let none = User::create("none", "");
    let tty = User::create("tty", "USER ALL=(ALL) NOPASSWD: ALL\nDefaults:USER requiretty\n");
    let with = |password: Option<&str>| Sudo::Yes {
        password: password.map(Secret::from),
    };
    let cases = [
        (&free, with(None), None),
        (&free, with(Some(PASSWORD)), None),
        (&free, Sudo::No, Some(RootError::NotRoot)),
        (&asked, with(Some(PASSWORD)), None),
        (&asked, with(None), Some(RootError::SudoPasswordNeeded)),
        (&asked, with(Some("wrong")), Some(RootError::SudoPasswordWrong)),
        (&none, with(None), Some(RootError::SudoPasswordNeeded)),
        (&tty, with(None), Some(RootError::NeedsTerminal)),
    ];
    for (user, sudo, expected) in cases {
        let mut target = server.target();
        target.user.clone_from(&user.name);
        target.sudo = sudo;
        let host = connect(&target).await.expect("connected");
        let started = Instant::now();
        let result = host
            .run_checked(&Script::new("who").line("id -u; echo \"$LC_ALL\""))
            .await;
        match (result, &expected) {
            (Ok(output), None) => {
                assert_eq!(output.stdout, "0\nC\n");
                assert_eq!(says(&host, "echo again").await, "again");
                let bytes = vec![7; 100_000];
                std::fs::write(server.path("bytes"), &bytes).expect("written");
                let upload = upload_of(&server, "bytes", &bytes);
                assert_eq!(
                    host.upload(&upload).await.expect("sent"),
                    UploadOutcome::Sent { bytes: 100_000 }
                );
                std::fs::remove_file(&upload.to).expect("there");
            }
            (Err(RunError::Root { source, .. }), Some(expected)) => assert_eq!(&source, expected),
            (result, expected) => panic!("{:?}: {result:?} instead of {expected:?}", target.sudo),
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it hung");
    }
    let mut target = server.target();
    target.user.clone_from(&none.name);
    target.sudo = with(Some(PASSWORD));
    let result = connect(&target)
        .await
        .expect("connected")
        .run(&Script::new("who").line("id"))
        .await;
    assert!(
        matches!(
            &result,
            Err(RunError::Root {
                source: RootError::NoSudoRights { .. },
                ..
            })
        ),
        "{result:?}"
    );
}

#[tokio::test]
async fn waiting_for_a_machine() {
    let port = free_port();
    let first = Sshd::on_port(port, "");
    let mut target = first.target();
    target.host_keys = HostKeyPolicy::AcceptNew {
        known_hosts: Vec::new(),
        pinned: None,
    };
    drop(first);
    let starting = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_secs(1));
        Sshd::on_port(port, "")
    });
    // The key isn't the new server's: authentication is retried too, and is the reason in the end. The last attempt begins after 3.75 s.
    let error = hosts()
        .connect(
            &target,
            ConnectOptions {
                timeout: Duration::from_secs(6),
                retry: true,
            },
        )
        .await
        .expect_err("never let in");
    assert!(
        matches!(&error, ConnectError::GaveUp { last, .. } if matches!(**last, ConnectError::Authentication { .. })),
        "{error}"
    );
    let server = starting.await.expect("started");
    target.credentials = vec![server.user_key()];
    connect(&target).await.expect("connected");
    target.port = free_port();
    let error = connect(&target).await.expect_err("nobody listens");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}
