//! Prints the summary of a capture.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use pktvisor_common::api::Views;
use pktvisor_common::report::{self, Style};

use crate::cli::{Cli, Format};

/// Width of a report that does not go to a terminal.
const WIDTH: usize = 100;

/// Writes the views where and how the arguments say.
///
/// # Errors
/// Where the output can't be written. A reader that closed the pipe is no error.
pub fn write(views: &Views, cli: &Cli) -> io::Result<()> {
    let text = render(views, cli)?;
    if cli.output == Path::new("-") {
        let mut stdout = io::stdout().lock();
        return match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        };
    }
    File::create(&cli.output)?.write_all(text.as_bytes())
}

fn render(views: &Views, cli: &Cli) -> io::Result<String> {
    let terminal = cli.output == Path::new("-") && io::stdout().is_terminal();
    match cli.format {
        Format::Json => {
            let mut json = match cli.pretty || terminal {
                true => serde_json::to_string_pretty(views)?,
                false => serde_json::to_string(views)?,
            };
            json.push('\n');
            Ok(json)
        }
        Format::Text => {
            // https://no-color.org: set and not empty means no colour.
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let width = terminal.then(terminal_size::terminal_size).flatten();
            let style = Style {
                color: terminal && !no_color,
                width: width.map_or(WIDTH, |(width, _)| usize::from(width.0)),
            };
            Ok(views.iter().map(|(title, view)| report::render(title, view, style)).collect())
        }
    }
}
