//! What reads bytes that others send: none of it may panic, or take time or memory without bound. Each function is a target of `cargo fuzz`
//! (`fuzz_targets/`), and runs for some seconds in `cargo test` (`tests/fuzz.rs`).

use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use terraform_provider_etcd::etcd::certificates::{Ca, PrivateKeyPem, Serial, count, parse, parse_all};
use terraform_provider_etcd::etcd::metrics::Metrics;
use terraform_provider_etcd::etcd::{snapshot, yaml};
use terraform_provider_etcd::host::Identity;
use terraform_provider_etcd::host::framing::Frame;
use terraform_provider_etcd::host::known_hosts::{Entry, HostKey, lookup_name};
use terraform_provider_etcd::plugin::block::Provider as _;
use terraform_provider_etcd::plugin::codec::{attributes_type, decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::DynamicValue;
use terraform_provider_etcd::plugin::schema::Type;
use terraform_provider_etcd::provider;

/// A function that reads bytes of others.
pub type Target = fn(&[u8]);

/// All targets by name. Each has a folder in `seeds/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("certificate", certificate),
    ("framing", framing),
    ("known_hosts", known_hosts),
    ("metrics", metrics),
    ("msgpack", msgpack),
    ("snapshot", snapshot),
    ("yaml", yaml),
];

/// The types of everything that Terraform sends, and one that says its own type.
static TYPES: LazyLock<Vec<Type>> = LazyLock::new(|| {
    let provider = provider::provider();
    let blocks = provider.resources().iter();
    let types = blocks.map(|block| attributes_type(&block.schema().attributes));
    types.chain([Type::Dynamic]).collect()
});

/// Terraform's values, as msgpack and as JSON. What could be decoded can be encoded, and is the same then.
pub fn msgpack(data: &[u8]) {
    for r#type in TYPES.iter() {
        let (data, none) = (data.to_vec().into(), Bytes::new());
        let forms = [
            DynamicValue {
                msgpack: Bytes::clone(&data),
                json: none.clone(),
            },
            DynamicValue {
                msgpack: none,
                json: data,
            },
        ];
        for message in forms {
            if let Ok(value) = decode(&message, r#type) {
                let again = encode(&value, r#type).expect("what was decoded can be encoded");
                assert_eq!(decode(&again, r#type).as_ref(), Ok(&value));
            }
        }
    }
}

/// A snapshot of etcd: a file of bbolt's.
pub fn snapshot(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(data).expect("written");
    look_at(file.path());
}

fn look_at(path: &Path) {
    let _ = snapshot::read(path);
    let _ = snapshot::look(path);
}

/// Lines of known_hosts files, host keys as they are on the wire, and keys to log in with.
pub fn known_hosts(data: &[u8]) {
    let _ = HostKey::from_blob(data);
    let text = String::from_utf8_lossy(data);
    let names = [lookup_name("a1.example.com", 22), lookup_name("fd00::1", 2222)];
    for line in text.lines() {
        if let Some(entry) = Entry::parse(line, "known_hosts:1".into()) {
            let _ = names.iter().any(|name| entry.is_about(name));
        }
    }
    let _ = (Identity::of_public(&text), Identity::of_private(&text));
}

/// A member's metrics.
pub fn metrics(data: &[u8]) {
    let metrics = Metrics::parse(&String::from_utf8_lossy(data));
    let _ = (metrics.connected_to().count(), metrics.lost_ids(), metrics.active_ids());
    let _ = metrics.fsyncs(Some(&metrics));
}

/// A configuration file of etcd or k3s.
pub fn yaml(data: &[u8]) {
    let _ = yaml::options(&String::from_utf8_lossy(data));
}

/// Certificates, keys and serial numbers.
pub fn certificate(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (parse(&text), parse_all(&text), count(&text), Serial::read(&text));
    for key in PrivateKeyPem::new(text.clone().into_owned()).each() {
        let _ = Ca::from_pem(&text, &key);
    }
}

/// What comes back from a script, in pieces whose length the first byte says.
pub fn framing(data: &[u8]) {
    let Some((length, data)) = data.split_first() else {
        return;
    };
    let frame = Frame::new(1);
    let (mut stdout, mut stderr) = (frame.stream(1 << 16), frame.stream(1 << 16));
    for piece in data.chunks(usize::from(*length).max(1)) {
        if stdout.take(piece).is_err() || stderr.take(piece).is_err() {
            return;
        }
    }
    if let Some(output) = Frame::output(frame.mark(), &stdout, &stderr) {
        let _ = (
            output.fault(),
            output.value("a"),
            output.values("b").count(),
            output.last_lines(),
        );
    }
}
