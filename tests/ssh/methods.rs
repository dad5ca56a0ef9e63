//! The handshake's methods: what is offered, and what is said where a server has only old ones.

use std::collections::BTreeMap;

use terraform_provider_etcd::host::{ConnectError, ConnectOptions, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::sshd::Sshd;
use crate::{connect, hosts, says};

#[tokio::test]
async fn a_server_with_old_methods_alone_is_refused_with_what_it_offers() {
    for (configuration, kind, offered) in [
        ("Ciphers aes256-cbc,3des-cbc", "cipher", "aes256-cbc, 3des-cbc"),
        (
            "MACs hmac-sha1,hmac-md5\nCiphers aes256-ctr",
            "MAC",
            "hmac-sha1, hmac-md5",
        ),
        (
            "KexAlgorithms diffie-hellman-group14-sha1",
            "key exchange",
            "diffie-hellman-group14-sha1",
        ),
        // sshd leaves out the kinds that it has no key of.
        ("HostKeyAlgorithms ssh-rsa", "host key algorithm", ""),
    ] {
        let server = Sshd::start(&format!("LogLevel DEBUG1\n{configuration}\nHostKey FOLDER/host_rsa"));
        let bastion = Sshd::start("");
        let through = Target {
            bastion: Some(Box::new(bastion.target())),
            ..server.target()
        };
        for target in [server.target(), through] {
            // It is not tried again: another answer is not to be expected.
            let options = ConnectOptions {
                retry: true,
                ..ConnectOptions::default()
            };
            let error = hosts().connect(&target, options).await.expect_err(configuration);
            let text = error.to_string();
            assert!(
                matches!(error, ConnectError::NothingInCommon { .. }) && !text.contains('\n'),
                "{configuration}: {text}"
            );
            let said = format!("no {kind} in common: it offers {offered}");
            assert!(text.contains(&said), "{configuration}: {text}");
        }
        assert!(!server.has_logged(&["userauth-request"]), "{configuration}");
    }
}

#[tokio::test]
async fn every_method_that_is_taken_works() {
    for configuration in [
        "Ciphers aes256-gcm@openssh.com\nMACs hmac-sha1",
        "Ciphers aes128-gcm@openssh.com",
        "Ciphers chacha20-poly1305@openssh.com",
        "Ciphers aes192-ctr\nMACs hmac-sha2-512",
        "Ciphers aes128-ctr\nMACs hmac-sha2-256-etm@openssh.com",
        "KexAlgorithms ecdh-sha2-nistp521",
        "KexAlgorithms diffie-hellman-group14-sha256",
        "KexAlgorithms diffie-hellman-group-exchange-sha256",
        "HostKeyAlgorithms ssh-ed25519\nCiphers aes256-cbc,aes256-ctr\nMACs hmac-sha1,hmac-sha2-256",
    ] {
        let server = Sshd::start(configuration);
        let host = connect(&server.target())
            .await
            .unwrap_or_else(|error| panic!("{configuration}: {error}"));
        assert_eq!(says(&host, "echo in").await, "in");
    }
}

/// The lists that a client offers, by their kind.
async fn offered_to_anybody() -> BTreeMap<&'static str, String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut target = Sshd::start("").target();
    target.port = listener.local_addr().expect("bound").port();
    let connecting = tokio::spawn(async move { connect(&target).await });
    let (mut stream, _) = listener.accept().await.expect("accepted");
    stream.write_all(b"SSH-2.0-test\r\n").await.expect("written");
    let mut bytes = vec![0; 16 * 1024];
    let mut length = 0;
    let (start, end) = loop {
        length += stream.read(&mut bytes[length..]).await.expect("read");
        let version = bytes[..length].iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let Some(start) = version.filter(|start| length >= start + 4) else {
            continue;
        };
        let packet = u32::from_be_bytes(bytes[start..start + 4].try_into().expect("four")) as usize;
        if length >= start + 4 + packet {
            break (start, start + 4 + packet);
        }
    };
    connecting.abort();
    let payload = &bytes[start + 5..end];
    assert_eq!(payload[0], 20, "SSH_MSG_KEXINIT");
    let mut at = 17;
    let kinds = ["kex", "host key", "cipher to", "cipher from", "mac to", "mac from"];
    kinds
        .into_iter()
        .map(|kind| {
            let length = u32::from_be_bytes(payload[at..at + 4].try_into().expect("four")) as usize;
            let list = String::from_utf8_lossy(&payload[at + 4..at + 4 + length]).into_owned();
            at += 4 + length;
            (kind, list)
        })
        .collect()
}

#[tokio::test]
async fn nothing_old_is_offered() {
    let offered = offered_to_anybody().await;
    let old = [
        "cbc", "sha1", "md5", "ripemd", "arcfour", "3des", "blowfish", "cast", "ssh-rsa", "ssh-dss", "none",
    ];
    for (kind, list) in &offered {
        let found: Vec<&str> = list
            .split(',')
            .filter(|method| old.iter().any(|old| method.contains(old)))
            .collect();
        assert!(found.is_empty(), "{kind}: {found:?}");
    }
    // Without this an attacker may drop the first packets unseen (Terrapin, CVE-2023-48795).
    assert!(
        offered["kex"].contains("kex-strict-c-v00@openssh.com"),
        "{}",
        offered["kex"]
    );
    assert!(
        offered["cipher to"].starts_with("aes256-gcm@openssh.com,"),
        "{}",
        offered["cipher to"]
    );
}
