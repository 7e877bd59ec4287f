//! Prints the summary of a capture.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use pktvisor_common::api::Views;
use pktvisor_common::report::{self, Style};

use crate::config::{Format, ReportConfig};

/// Width of a report that is not written to a terminal, in columns.
const WIDTH: usize = 100;

/// Writes the views to the destination and in the format of the options.
///
/// # Errors
/// An I/O error if the output cannot be written. A pipe closed by its reader is not an error.
pub fn write(views: &Views, config: &ReportConfig) -> io::Result<()> {
    let text = render(views, config)?;
    if config.output == Path::new("-") {
        let mut stdout = io::stdout().lock();
        return match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        };
    }
    create(&config.output)?.write_all(text.as_bytes())
}

/// Links to the program's own output (proc_pid_fd(5)).
const OWN_OUTPUT: [&str; 2] = ["/dev/stdout", "/dev/stderr"];

/// Creates a file.
///
/// As root, it refuses a link to a regular file, except for the program's own output. Otherwise a
/// user who can write to the link's folder could choose which file is overwritten.
fn create(path: &Path) -> io::Result<File> {
    let is_own = OWN_OUTPUT.iter().any(|own| path == Path::new(own));
    if is_own || !rustix::process::geteuid().is_root() {
        return File::create(path);
    }
    let mut options = OpenOptions::new();
    if !path.is_symlink() {
        options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW);
        return options.open(path);
    }
    // Check the opened file: the link may point elsewhere by now.
    let file = options.write(true).open(path)?;
    match file.metadata()?.is_file() {
        true => Err(io::Error::other(
            "the file is a symbolic link, which root does not follow; name its target instead",
        )),
        false => Ok(file),
    }
}

fn render(views: &Views, config: &ReportConfig) -> io::Result<String> {
    let terminal = config.output == Path::new("-") && io::stdout().is_terminal();
    match config.format {
        Format::Json => {
            let mut json = match config.pretty || terminal {
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
