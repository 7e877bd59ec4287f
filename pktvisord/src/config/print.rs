//! Prints options: those in force with their sources, and all that exist.

use std::fmt::Write;

use clap::builder::ValueRange;
use clap::{Arg, ArgAction, ArgMatches};

use super::model::{TABLES, Table, reloadable};
use super::{Config, Source, TARGET, command, environment, is_flag, settings, shown};

/// Maximum width of a comment in the example, in columns.
const WIDTH: usize = 98;
/// Values in the example for options without a default.
const EXAMPLES: [(&str, &str); 20] = [
    (TARGET, "\"any\""),
    ("filter", "\"not port 22\""),
    ("hosts", "[\"192.0.2.0/24\", \"2001:db8::/32\"]"),
    ("geo_city", "\"/usr/share/GeoIP/GeoLite2-City.mmdb\""),
    ("geo_asn", "\"/usr/share/GeoIP/GeoLite2-ASN.mmdb\""),
    ("tls_cert", "\"/etc/pktvisor/cert.pem\""),
    ("tls_key", "\"/etc/pktvisor/key.pem\""),
    ("client_ca", "\"/etc/pktvisor/clients.pem\""),
    ("token_file", "\"/etc/pktvisor/tokens\""),
    ("mask_ip", "\"24/48\""),
    ("hash_names", "\"/etc/pktvisor/names.key\""),
    ("fleet_key", "\"/etc/pktvisor/fleet.key\""),
    ("history_dir", "\"/var/lib/pktvisor\""),
    ("history_keep_days", "\"10y\""),
    ("user", "\"nobody\""),
    ("replay", "10"),
    ("workers", "2"),
    ("dns_port", "[53, 5353]"),
    ("verbose", "1"),
    ("quiet", "false"),
];

impl Config {
    /// Formats the options in force as a file, with the source of each.
    pub fn print(&self) -> String {
        let command = command();
        let line = |(key, arg): (String, &Arg)| {
            let source = match self.source(arg.get_id().as_str()) {
                Source::CommandLine => "command line".to_owned(),
                Source::Environment => format!("environment: {}", environment(arg)),
                Source::File(line) => format!("file: line {line}"),
                Source::Default => "default".to_owned(),
                Source::Unset => "not set".to_owned(),
            };
            match value(arg, &self.merged) {
                Some(value) if source != "not set" => (format!("{key} = {value}"), source),
                _ => (format!("# {key}"), "not set".to_owned()),
            }
        };
        let tables: Vec<(&str, Vec<(String, String)>)> = TABLES
            .iter()
            .map(|table| (table.header, options_of(table, &command).map(line).collect()))
            .collect();
        let lines = tables.iter().flat_map(|(_, lines)| lines);
        let width = lines.map(|(entry, _)| entry.chars().count()).max().unwrap_or(0);
        let mut text = match &self.file {
            Some(path) => format!("# file: {}\n", shown(path)),
            None => format!("# file: none ({} does not exist)\n", super::DEFAULT_FILE),
        };
        for (header, lines) in tables {
            // Writing to memory cannot fail.
            let _ = writeln!(text, "\n{header}");
            for (entry, source) in lines {
                let padding = " ".repeat(width - entry.chars().count());
                let _ = writeln!(text, "{entry}{padding}  # {source}");
            }
        }
        text
    }
}

/// Returns the options of a table, by their names in the file.
fn options_of<'a>(
    table: &'a Table,
    command: &'a clap::Command,
) -> impl Iterator<Item = (String, &'a Arg)> {
    let options = table.options();
    settings(command)
        .filter(move |(_, arg)| options.iter().any(|id| *id == *arg.get_id()))
        .map(|(name, arg)| (table.key(&name).to_owned(), arg))
}

/// Formats the value of an option for the file; `None` if it has none.
pub(super) fn value(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    match arg.get_action() {
        ArgAction::SetTrue => Some(matches.get_flag(id).to_string()),
        ArgAction::Count => Some(matches.get_count(id).to_string()),
        action => {
            let raw = matches.get_raw(id)?;
            let values: Vec<String> = raw.map(|value| quoted(&value.to_string_lossy())).collect();
            match action {
                ArgAction::Append => Some(format!("[{}]", values.join(", "))),
                _ => values.into_iter().next(),
            }
        }
    }
}

/// Returns a number as it is and quotes all other text.
fn quoted(text: &str) -> String {
    let number = text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
        || text.contains('.') && text.parse::<f64>().is_ok_and(f64::is_finite);
    if number { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

/// Returns the value of an option in the example.
fn example_value(arg: &Arg) -> String {
    let id = arg.get_id().as_str();
    if let Some((_, value)) = EXAMPLES.iter().find(|(of, _)| *of == id) {
        return (*value).to_owned();
    }
    let default = arg.get_default_values().first();
    match default {
        Some(default) if !is_flag(arg) => quoted(&default.to_string_lossy()),
        _ => "true".to_owned(),
    }
}

/// Returns an example file with every option commented out and explained.
pub fn example() -> String {
    let (command, reloadable) = (command(), reloadable());
    let mut text = String::from(
        "# Configuration of pktvisord, with every option. Each option is named like --OPTION on the\n\
         # command line, which overrides the environment (PKTVISORD_OPTION), which overrides this\n\
         # file. `pktvisord --check-config` checks the configuration, and --print-config prints the\n\
         # options in effect. SIGHUP applies changes of options marked (reload). An option can also\n\
         # be set at the top, before all tables; there, those of [history] start with history-.\n",
    );
    for table in &TABLES {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "\n#{}", table.header);
        for (key, arg) in options_of(table, &command) {
            let reload =
                if reloadable.iter().any(|id| *id == *arg.get_id()) { " (reload)" } else { "" };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            text.push('\n');
            for line in wrap(&format!("{help}{reload}")) {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "#{key} = {}", example_value(arg));
        }
    }
    text
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().expect("one at least");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("one at least");
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

/// Returns a Markdown table of all options: names, environment, default, and whether SIGHUP applies
/// changes.
pub fn table() -> String {
    let (command, reloadable) = (command(), reloadable());
    let mut text = String::from(
        "| command line | file | environment | default | SIGHUP |\n|---|---|---|---|---|\n",
    );
    for table in &TABLES {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "| | **`{}`** | | | |", table.header);
        for (key, arg) in options_of(table, &command) {
            let reload = reloadable.iter().any(|id| *id == *arg.get_id());
            let _ = writeln!(
                text,
                "| {} | `{key}` | `{}` | {} | {} |",
                on_command_line(arg),
                environment(arg),
                default(arg),
                if reload { "yes" } else { "" }
            );
        }
    }
    text
}

/// Formats an option with its value for the command line.
fn on_command_line(arg: &Arg) -> String {
    let key = arg.get_long().unwrap_or_default();
    let takes_value = arg.get_num_args().is_none_or(|range| range != ValueRange::EMPTY);
    let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let value = name.filter(|_| !is_flag(arg) && takes_value).unwrap_or_default();
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let long = match (arg.get_id() == TARGET, value.as_str()) {
        (true, _) => "`TARGET`".to_owned(),
        (_, "") => format!("`--{key}`"),
        (_, value) if arg.is_require_equals_set() => format!("`--{key}[={value}]`"),
        (_, value) => format!("`--{key} {value}`"),
    };
    short + &long
}

/// Formats the default of an option.
fn default(arg: &Arg) -> String {
    match arg.get_default_values().first() {
        Some(default) if !is_flag(arg) => format!("`{}`", default.to_string_lossy()),
        _ => String::new(),
    }
}
