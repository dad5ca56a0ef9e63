//! What an etcd that runs was started with, whichever way: by flags, by its environment, or by a configuration file. All by the names
//! of the flags.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::config::{is_option, is_switch, owned_option, written_option};
use super::super::yaml;

/// Options by the names of their flags, without dashes.
pub type Options = BTreeMap<String, String>;

/// What the server says of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartedWith {
    /// Its arguments, the program first.
    pub arguments: Vec<String>,
    /// Its environment, as far as that is etcd's: `ETCD_…=…`.
    pub environment: Vec<String>,
    /// Its configuration file, if it was given one.
    pub file: Option<String>,
}

impl StartedWith {
    /// The options that are in force. With a configuration file etcd looks at nothing else; a flag goes before the environment
    /// (`etcdmain/config.go`, `parse`).
    ///
    /// # Errors
    /// If the configuration file is no YAML, in words.
    pub fn options(&self) -> Result<Options, String> {
        let mut options = match &self.file {
            Some(file) => from_file(file)?,
            None => {
                let mut options = from_environment(&self.environment);
                options.extend(from_arguments(self.arguments.get(1..).unwrap_or_default()));
                options
            }
        };
        options.retain(|_, value| !value.is_empty());
        Ok(options)
    }
}

/// As Go's `flag` reads them.
fn from_arguments(arguments: &[String]) -> Options {
    let mut options = Options::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            break;
        };
        match flag.split_once('=') {
            Some((name, value)) => options.insert(name.to_owned(), value.to_owned()),
            None if is_switch(flag) => options.insert(flag.to_owned(), "true".to_owned()),
            None => {
                let value = rest.next().cloned().unwrap_or_default();
                options.insert(flag.to_owned(), value)
            }
        };
    }
    options
}

/// A variable that is no option is etcd's not to heed either.
fn from_environment(variables: &[String]) -> Options {
    let options = variables.iter().filter_map(|variable| {
        let (name, value) = variable.strip_prefix("ETCD_")?.split_once('=')?;
        let name = name.to_lowercase().replace('_', "-");
        (is_option(&name) || owned_option(&name).is_some()).then(|| (name, value.to_owned()))
    });
    options.collect()
}

fn from_file(text: &str) -> Result<Options, String> {
    let file = yaml::options(text).map_err(|error| error.to_string())?;
    let mut options = Options::new();
    for (key, value) in &file {
        match (key.as_str(), value) {
            ("client-transport-security", Value::Object(security)) => {
                options.extend(security_options(security, client_flag));
            }
            ("peer-transport-security", Value::Object(security)) => {
                options.extend(security_options(security, peer_flag));
            }
            _ => {
                options.insert(key.clone(), written_option(key, value));
            }
        }
    }
    Ok(options)
}

fn security_options(security: &yaml::Options, flag: fn(&str) -> String) -> Options {
    let options = security.iter().map(|(key, value)| {
        let flag = flag(key);
        let value = written_option(&flag, value);
        (flag, value)
    });
    options.collect()
}

fn client_flag(key: &str) -> String {
    match key {
        "allowed-hostname" => "client-cert-allowed-hostname".to_owned(),
        key => key.to_owned(),
    }
}

fn peer_flag(key: &str) -> String {
    match key {
        "allowed-cn" | "allowed-hostname" => format!("peer-cert-{key}"),
        key => format!("peer-{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_flag_goes_before_the_environment_and_a_file_before_both() {
        let mut process = StartedWith {
            arguments: words("/usr/bin/etcd --name=a --pre-vote -data-dir /srv/etcd --client-cert-auth=false"),
            environment: words("ETCD_NAME=b ETCD_HEARTBEAT_INTERVAL=150 ETCD_VER=v3.5.1 ETCD_INITIAL_CLUSTER="),
            file: None,
        };
        let expected = [
            ("client-cert-auth", "false"),
            ("data-dir", "/srv/etcd"),
            ("heartbeat-interval", "150"),
            ("name", "a"),
            ("pre-vote", "true"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(process.options(), Ok(expected.into()));
        process.file = Some(
            "name: c\ngrpc-keepalive-interval: 5000000000\npeer-transport-security:\n  cert-file: /p.crt\n  allowed-cn: x\n\
             client-transport-security:\n  client-cert-auth: true\nlog-outputs: [stderr, /var/log/etcd]\n"
                .to_owned(),
        );
        let expected = [
            ("client-cert-auth", "true"),
            ("grpc-keepalive-interval", "5s"),
            ("log-outputs", "stderr,/var/log/etcd"),
            ("name", "c"),
            ("peer-cert-allowed-cn", "x"),
            ("peer-cert-file", "/p.crt"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(process.options(), Ok(expected.into()));
        process.file = Some("a: [".to_owned());
        assert!(process.options().is_err());
    }

    /// Files as others write them. A change here changes how clusters of theirs are taken over.
    #[test]
    fn files_of_others_are_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/yaml");
        for name in ["sample", "short", "anchors", "ours"] {
            let file = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
            let process = StartedWith {
                file: Some(file),
                ..StartedWith::default()
            };
            insta::assert_json_snapshot!(name, process.options());
        }
    }
}
