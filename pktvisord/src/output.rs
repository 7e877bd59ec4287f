//! Prints the summary of a capture.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
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
    create(&cli.output)?.write_all(text.as_bytes())
}

/// Creates a file. Root follows a link to no regular file: who may write where the link lies could
/// choose which file is overwritten.
fn create(path: &Path) -> io::Result<File> {
    let is_device = || path.starts_with("/dev") || path.metadata().is_ok_and(|to| !to.is_file());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if rustix::process::geteuid().is_root() && path.is_symlink() && !is_device() {
        return Err(io::Error::other(
            "it is a link, which root does not follow; name what it leads to",
        ));
    }
    if rustix::process::geteuid().is_root() && !path.is_symlink() {
        options.custom_flags(libc::O_NOFOLLOW);
    }
    options.open(path)
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
