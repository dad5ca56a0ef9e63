//! What a bastion is offered, and which one is believed, from the provider's configuration to the machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use terraform_provider_etcd::host::{ConnectError, Host};
use terraform_provider_etcd::plugin::value::{Value, from_value};
use terraform_provider_etcd::resource::connection::{ShownKeys, SshConfig};
use terraform_provider_etcd::resource::road::{Road, RoadError};
use terraform_provider_etcd::resource::server::model::ServerModel;
use tokio_util::sync::CancellationToken;

use crate::sshd::{PASSWORD, Sshd, User};

type Entries = Vec<(&'static str, Value)>;

fn object(entries: Entries) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn road(ssh: Entries) -> Road {
    let ssh: SshConfig = from_value(&object(ssh)).expect("a configuration");
    let road = Road::default();
    road.configure(ssh, BTreeMap::new(), false, CancellationToken::new());
    road
}

fn path(path: PathBuf) -> Value {
    path.display().to_string().into()
}

fn server(at: &Sshd, bastion_host_key: Option<String>) -> ServerModel {
    let mut model: ServerModel = from_value(&Value::object([
        ("name", "a1".into()),
        ("network", "a".into()),
        ("private_address", "127.0.0.1".into()),
        ("peer_port", 2380.into()),
        ("client_port", 2379.into()),
        ("ssh", Value::object([("port", i64::from(at.port).into())])),
    ]))
    .expect("a server");
    model.bastion_host_key = bastion_host_key;
    model
}

async fn connect(road: &Road, server: &ServerModel) -> Result<Host, RoadError> {
    road.connect(server, Duration::from_secs(15), false).await
}

fn ssh(server: &Sshd, bastion: Entries) -> Entries {
    vec![
        ("user", "root".into()),
        ("private_key_file", path(server.path("user"))),
        ("known_hosts_file", path(server.path("none"))),
        ("host_key_checking", "accept_new".into()),
        ("bastion", object(bastion)),
    ]
}

#[tokio::test]
async fn a_password_goes_only_to_the_machine_that_it_is_for() {
    let log = "PasswordAuthentication yes\nKbdInteractiveAuthentication yes\nLogLevel DEBUG2";
    let (at, bastion) = (Sshd::start(log), Sshd::start(log));
    std::fs::copy(at.path("authorized_keys"), bastion.path("servers_keys")).expect("copied");
    let user = User::create("jump", "");
    let place = |more: Entries| {
        let mut entries: Entries = vec![
            ("host", "127.0.0.1".into()),
            ("port", i64::from(bastion.port).into()),
            ("user", user.name.as_str().into()),
        ];
        entries.extend(more);
        entries
    };
    let offered =
        |method: &str| bastion.has_logged(&["userauth-request", "ssh-connection", &format!("method {method}")]);
    // A key of its own, which the bastion doesn't take: neither the password nor the key of the servers follows.
    let key = path(at.path("host_ecdsa"));
    let mut entries = ssh(&at, place(vec![("private_key_file", key)]));
    entries.push(("password", PASSWORD.into()));
    let error = connect(&road(entries), &server(&at, None))
        .await
        .expect_err("not let in")
        .to_string();
    assert!(
        error.contains("its bastion") && error.matches("refused by the server").count() == 1,
        "{error}"
    );
    assert!(
        offered("publickey") && !offered("password") && !offered("keyboard-interactive"),
        "{}",
        bastion.read("log")
    );
    // No credentials of its own: it gets the key, and still no password.
    let mut entries = ssh(&at, place(vec![]));
    entries.push(("password", PASSWORD.into()));
    assert!(connect(&road(entries), &server(&at, None)).await.is_err());
    assert!(
        !offered("password") && !offered("keyboard-interactive"),
        "{}",
        bastion.read("log")
    );
    // A password of its own goes to it, and not to the servers.
    let entries = ssh(&at, place(vec![("password", PASSWORD.into())]));
    connect(&road(entries), &server(&at, None)).await.expect("let in");
    assert!(offered("password"));
    assert!(!at.has_logged(&["method password"]), "{}", at.read("log"));
}

#[tokio::test]
async fn the_first_key_of_a_bastion_is_pinned() {
    let (at, bastion) = (Sshd::start(""), Sshd::start("LogLevel DEBUG1"));
    let place = |port: u16, more: Entries| {
        let mut entries: Entries = vec![("host", "127.0.0.1".into()), ("port", i64::from(port).into())];
        entries.extend(more);
        entries
    };
    let own_key = |of: &Sshd| ("private_key_file", path(of.path("user")));
    // The first run: any key is believed, and what is to be pinned is known.
    let host = connect(
        &road(ssh(&at, place(bastion.port, vec![own_key(&bastion)]))),
        &server(&at, None),
    )
    .await
    .expect("accept_new");
    let pin = ShownKeys::of(&host).bastion.expect("it showed one");
    assert_eq!(
        pin,
        format!("[127.0.0.1]:{} {}", bastion.port, bastion.host_key_line("ed25519"))
    );
    // A later run: the same one is right, and another one at its place is not.
    let entries = || ssh(&at, place(bastion.port, vec![own_key(&bastion)]));
    connect(&road(entries()), &server(&at, Some(pin.clone())))
        .await
        .expect("the same");
    let port = bastion.port;
    drop(bastion);
    let bastion = Sshd::on_port(port, "LogLevel DEBUG1");
    let another = || ssh(&at, place(port, vec![own_key(&bastion)]));
    let error = match connect(&road(another()), &server(&at, Some(pin.clone()))).await {
        Err(RoadError::Connect(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(
        matches!(&error, ConnectError::Bastion { source, .. } if matches!(**source, ConnectError::HostKeyChanged { .. })),
        "{error}"
    );
    assert!(!bastion.has_logged(&["userauth-request"]), "{}", bastion.read("log"));
    // Within one run it is one bastion, whichever server is asked for.
    let both = road(another());
    connect(&both, &server(&at, None)).await.expect("accept_new");
    assert!(connect(&both, &server(&at, Some(pin.clone()))).await.is_err());
    // What the configuration says wins, and a bastion at another place is another one.
    let said = vec![own_key(&bastion), ("host_key", bastion.host_key_line("ed25519").into())];
    connect(&road(ssh(&at, place(port, said))), &server(&at, Some(pin.clone())))
        .await
        .expect("given");
    let elsewhere = Sshd::start("");
    let entries = ssh(&at, place(elsewhere.port, vec![own_key(&elsewhere)]));
    connect(&road(entries), &server(&at, Some(pin)))
        .await
        .expect("another bastion");
    // A pin that can't be read pins nothing, and is told.
    let error = connect(&road(another()), &server(&at, Some(bastion.host_key_line("ed25519")))).await;
    let error = error.expect_err("no name").to_string();
    assert!(error.contains("bastion_host_key"), "{error}");
}
