//! What people read about the configuration: the commented example, the effective values, the
//! reference page. All are made from the table of options.

use std::fmt::Write as _;

use toml::Value;

use super::options::{ConfigOption, OPTIONS, SECTIONS, WhenAbsent};
use super::{Config, ConfiguredRelationship, InitialMembers, LogFormat, federation};

/// Width that help texts are wrapped at in the example.
const WIDTH: usize = 96;

/// A configuration file with every option in it, explained; what has a default is commented out.
/// It is itself a configuration that is accepted.
#[must_use]
pub fn example() -> String {
    let mut out = String::from(
        "# Configuration of one quorate node. Check it with: quorate config check --config FILE\n\
         # What the whole cluster shares (lifetimes, key types) is not here: see quorate policy show.\n",
    );
    for (section, purpose) in SECTIONS {
        out.push('\n');
        comment(&mut out, purpose);
        if !section.is_empty() {
            let _ = writeln!(out, "[{section}]");
        }
        for option in in_section(section) {
            out.push('\n');
            comment(&mut out, option.help);
            let _ = match option.when_absent {
                WhenAbsent::Required(value) => writeln!(out, "{} = {value}", option.key),
                WhenAbsent::Value(value) | WhenAbsent::Absent(value) => {
                    writeln!(out, "# {} = {value}", option.key)
                }
            };
        }
    }
    out
}

/// The configuration as it is in effect, defaults filled in, as TOML that is accepted again.
#[must_use]
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    for (section, _) in SECTIONS {
        if !section.is_empty() {
            let _ = writeln!(out, "\n[{section}]");
        }
        for option in in_section(section) {
            let name = option.name();
            let _ = match effective(config, &name) {
                Some(value) => writeln!(out, "{} = {value}", option.key),
                None => writeln!(out, "# {} is not set", option.key),
            };
        }
    }
    out
}

/// The page `docs/reference/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         A node reads one TOML file, by default `/etc/quorate/node.toml`. It is checked whole before\n\
         anything starts: unknown names are refused, and all problems are reported together.\n\n\
         ```text\n\
         quorate config example              a commented file to begin with\n\
         quorate config check --config FILE  all problems, or silence and exit code 0\n\
         quorate config show --config FILE   what is in effect, defaults filled in\n\
         ```\n\n\
         What the whole cluster shares (lifetimes, key types) is policy in the replicated state:\n\
         `quorate policy show`. This page is made from the program's own table of options.\n",
    );
    for (section, purpose) in SECTIONS {
        let title = if section.is_empty() { "Top of the file".to_owned() } else { format!("`[{section}]`") };
        let _ = writeln!(out, "\n## {title}\n\n{purpose}\n");
        let _ = writeln!(out, "| Option | Takes | Default | |\n|-|-|-|-|");
        for option in in_section(section) {
            let default = match option.when_absent {
                WhenAbsent::Required(_) => "none, must be set".to_owned(),
                WhenAbsent::Value(value) => format!("`{value}`"),
                WhenAbsent::Absent(_) => "not set".to_owned(),
            };
            let help = option.help.replace('<', "&lt;");
            let _ = writeln!(out, "| `{}` | {} | {default} | {help} |", option.key, option.takes);
        }
    }
    out
}

fn in_section(section: &str) -> impl Iterator<Item = &'static ConfigOption> {
    OPTIONS.iter().filter(move |option| option.section == section)
}

/// The value in effect, as TOML; none for an option that is not set.
fn effective(config: &Config, name: &str) -> Option<Value> {
    let text = |value: &dyn ToString| Some(Value::String(value.to_string()));
    let path = |value: &std::path::Path| Some(Value::String(value.to_string_lossy().into_owned()));
    let count = |value: usize| i64::try_from(value).ok().map(Value::Integer);
    match name {
        "trust_domain" => text(&config.trust_domain.as_str()),
        "name" => text(&config.name),
        "data_dir" => path(&config.data_dir),
        "workload_api.socket" => path(&config.workload_api.socket),
        "workload_api.max_connections" => count(config.workload_api.max_connections),
        "workload_api.max_calls_per_user" => count(config.workload_api.max_calls_per_user),
        "workload_api.foreign_jwt_claims" => {
            Some(Value::Array(config.workload_api.foreign_jwt_claims.iter().cloned().map(Value::String).collect()))
        }
        "admin.socket" => path(&config.admin.socket),
        "admin.group" => config.admin.group.as_ref().and_then(|group| text(group)),
        "peer.listen" => text(&config.peer.listen),
        "peer.advertise" if config.peer.advertise.is_empty() => None,
        "peer.advertise" => {
            Some(Value::Array(config.peer.advertise.iter().map(|address| Value::String(address.to_string())).collect()))
        }
        "cluster.initial" => config.initial.as_ref().map(InitialMembers::to_toml),
        "audit.keep_bytes" => i64::try_from(config.audit.keep_bytes).ok().map(Value::Integer),
        "operations.listen" => match config.operations.listen {
            Some(address) => text(&address),
            None => text(&"none"),
        },
        "operations.hosts" => Some(Value::Array(config.operations.hosts.iter().cloned().map(Value::String).collect())),
        "log.format" => text(&match config.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }),
        "log.level" => text(&config.log.level.as_str().to_ascii_lowercase()),
        "federation.relationships" if config.relationships.is_empty() => None,
        "federation.relationships" => {
            Some(Value::Array(config.relationships.iter().map(ConfiguredRelationship::to_toml).collect()))
        }
        _ => federation::effective(config, name),
    }
}

/// Writes text as comment lines.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
