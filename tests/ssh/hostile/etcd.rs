//! Something in the place of etcd that answers badly, behind a real sshd.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::future::join_all;
use terraform_provider_etcd::etcd::api::{Api, ApiTarget, Pages};

use super::{Cost, cost_of, cost_of_nine, how_many, memory_now, what};
use crate::connect;
use crate::sshd::Sshd;

const TIME: Duration = Duration::from_secs(5);

fn target(port: u16) -> ApiTarget {
    ApiTarget {
        address: IpAddr::from(Ipv4Addr::LOCALHOST),
        port,
        elsewhere: None,
        tls: None,
        server_name: "a1.main.test".to_owned(),
        other_addresses: Vec::new(),
    }
}

/// Serves one page for ever.
fn pages(what: &str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (first, then) = match what {
        "endless" => (
            b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            b"etcd_server_has_leader 1\n".repeat(1000),
        ),
        "bomb" => {
            let mut packed = GzEncoder::new(Vec::new(), Compression::best());
            for _ in 0..300 {
                packed.write_all(&vec![b'\n'; 1 << 20]).expect("packed");
            }
            let packed = packed.finish().expect("packed");
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                packed.len()
            );
            ([head.into_bytes(), packed].concat(), Vec::new())
        }
        // As long as it may be, and nothing but what is read of it.
        "long" => {
            let line = b"etcd_network_active_peers{Local=\"a\",Remote=\"b\"} 1\n";
            let body = line.repeat((2 << 20) / line.len());
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            ([head.into_bytes(), body].concat(), Vec::new())
        }
        "headers" => (
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            b"x-header: and nothing else\r\n".repeat(1000),
        ),
        "refusal" => {
            let head = b"HTTP/1.1 500 Internal Server Error\r\n\r\n".to_vec();
            (head, b"no\n\x1b[2K\rApply complete!\n".repeat(1000))
        }
        other => panic!("{other}"),
    };
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&first);
            while !then.is_empty() && stream.write_all(&then).is_ok() {}
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "cost_of runs it"]
async fn a_page() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    let port = pages(&what());
    let before = memory_now();
    let began = Instant::now();
    // All are asked before any answer is dropped.
    let asked = (0..how_many()).map(async |_| {
        let pages = Pages::new(&host, &target(port)).expect("pages");
        pages.get("/metrics", TIME).await
    });
    let answers = join_all(asked).await;
    let mut said = answers.iter().map(|answer| match answer {
        Ok(text) => format!("a page of {} bytes", text.len()),
        Err(error) => error.to_string(),
    });
    Cost::of(began, before, said.next_back().expect("one at least")).tell();
}

#[test]
fn pages_are_bounded_packed_or_not() {
    for kind in ["endless", "bomb", "headers", "refusal"] {
        let cost = cost_of("hostile::etcd::a_page", kind);
        assert!(cost.took < TIME / 2, "{kind}: {:?}", cost.took);
        assert!(cost.error.contains("a1.main.test"), "{kind}: {}", cost.error);
        let too_much = cost.error.contains("more than 2048 KiB");
        assert_eq!(too_much, kind != "headers", "{kind}: {}", cost.error);
    }
}

/// Answers every call with a message that begins so and goes on so.
async fn calls(what: &str) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // A member that says nothing of itself is two bytes, and a structure of a hundred.
    let members = |bytes: usize| b"\x12\x00".repeat(bytes / 2);
    let message = |length: u32, bytes: Vec<u8>| [&[0], &length.to_be_bytes()[..], &bytes].concat();
    let (first, endless) = match what {
        "large" => (message(4_000_000, members(4_000_000)), false),
        "allowed" => (message(65_000, members(65_000)), false),
        "claims" => (message(u32::MAX, members(100_000)), false),
        "endless" => (message(4_000_000, Vec::new()), true),
        "many" => (message(0, Vec::new()).repeat(100_000), true),
        other => panic!("{other}"),
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let first = Bytes::from(first.clone());
            tokio::spawn(serve(stream, first, endless));
        }
    });
    port
}

async fn serve(stream: tokio::net::TcpStream, first: Bytes, endless: bool) {
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let first = first.clone();
        tokio::spawn(async move {
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut body = respond.send_response(head.body(()).expect("a head"), false)?;
            send(&mut body, first.clone()).await?;
            if endless {
                loop {
                    send(&mut body, Bytes::from(b"\x12\x00".repeat(8192))).await?;
                }
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            body.send_trailers(trailers)
        });
    }
}

async fn send(body: &mut h2::SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let Some(room) = std::future::poll_fn(|context| body.poll_capacity(context)).await else {
            return Err(h2::Reason::CANCEL.into());
        };
        let piece = bytes.split_to(room?.min(bytes.len()));
        body.send_data(piece, false)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "cost_of runs it"]
async fn a_call() {
    let server = Sshd::start("");
    let host = connect(&server.target()).await.expect("connected");
    let port = calls(&what()).await;
    let before = memory_now();
    let began = Instant::now();
    let asked = (0..how_many()).map(async |_| {
        let api = Api::connect(&host, &target(port), TIME).await?;
        api.members(TIME).await
    });
    let answers = join_all(asked).await;
    let mut said = answers.iter().map(|answer| match answer {
        Ok(members) => format!("a1.main.test: {} members", members.len()),
        Err(error) => error.to_string(),
    });
    Cost::of(began, before, said.next_back().expect("one at least")).tell();
}

#[test]
fn nine_of_them_are_no_more_than_there_is() {
    for (test, kind) in [
        ("a_page", "endless"),
        ("a_page", "bomb"),
        ("a_page", "long"),
        ("a_call", "allowed"),
        ("a_call", "large"),
    ] {
        cost_of_nine(&format!("hostile::etcd::{test}"), kind);
    }
}

#[test]
fn answers_are_bounded() {
    for kind in ["large", "allowed", "claims", "endless", "many"] {
        let cost = cost_of("hostile::etcd::a_call", kind);
        assert!(cost.took < TIME / 2, "{kind}: {:?}", cost.took);
        assert!(cost.error.contains("a1.main.test"), "{kind}: {}", cost.error);
        let too_much = cost.error.contains("longer than any of etcd");
        assert_eq!(
            too_much,
            ["large", "endless", "many"].contains(&kind),
            "{kind}: {}",
            cost.error
        );
    }
}
