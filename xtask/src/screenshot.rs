//! `cargo xtask screenshot`: draws the picture of the dashboard in the README.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use vt100::{Cell, Color, Screen};

use crate::exec::{cargo, exec, root, target_dir};

/// Draw docs/dashboard.svg, a picture of the dashboard beside a replayed capture
#[derive(Args)]
pub(crate) struct Screenshot {
    /// Time to watch in seconds
    #[arg(long, default_value_t = 75)]
    seconds: u64,
    /// Number of columns of the terminal
    #[arg(long, default_value_t = 132)]
    columns: u16,
    /// Number of lines of the terminal
    #[arg(long, default_value_t = 42)]
    lines: u16,
}

/// HOST of the generated capture.
const HOST: &str = "192.0.2.1/32,2001:db8::1/128";
/// Width and height of a character in pixels.
const CHARACTER: (f64, u32) = (8.4, 17);
/// Margin around the screen in pixels.
const MARGIN: u32 = 14;
const BACKGROUND: &str = "#1b1f27";

/// A child process. Dropping it kills the process.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Killing fails if the process has ended already, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Screenshot {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        exec(cargo().args(["build", "--release", "-p", "pktvisord", "-p", "pktvisor-tui"]))?;
        let release = target_dir()?.join("release");
        let folder = target_dir()?.join("screenshot");
        fs::create_dir_all(&folder)?;
        let capture = folder.join("sample.pcap");
        let packets = (self.seconds + 10) * 6_700;
        exec(
            cargo()
                .args(["xtask", "gen", "mixed"])
                .arg(&capture)
                .args(["--packets", &packets.to_string()]),
        )?;
        let _daemon = Running(
            Command::new(release.join("pktvisord"))
                .args(["--replay", "-H", HOST, "--quiet", "sample.pcap"])
                .current_dir(&folder)
                .stdout(Stdio::null())
                .spawn()
                .context("pktvisord does not start")?,
        );
        let Self { seconds, columns, lines } = self;
        let dashboard = release.join("pktvisor");
        let command = format!(
            "stty cols {columns} rows {lines}; exec {} --color always",
            dashboard.display()
        );
        // `script` gives the program a pseudo-terminal.
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start `script`, which is in Debian's bsdutils")?;
        let mut output = script.stdout.take().context("its output")?;
        let script = Running(script);
        let reader = std::thread::spawn(move || {
            let (mut parser, mut bytes) = (vt100::Parser::new(lines, columns, 0), vec![0; 65_536]);
            let mut last = parser.screen().clone();
            // Keeps the last screen before the dashboard leaves the alternate screen.
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                parser.process(&bytes[..n]);
                if parser.screen().alternate_screen() {
                    last = parser.screen().clone();
                }
            }
            last
        });
        eprintln!("watching for {seconds} s");
        sleep(Duration::from_secs(seconds));
        drop(script);
        let screen = reader.join().map_err(|_| anyhow::anyhow!("cannot read the terminal"))?;
        if !screen.contents().contains("live") {
            bail!("the screen does not show the dashboard:\n{}", screen.contents());
        }
        let path = root().join("docs/dashboard.svg");
        fs::write(&path, svg(&screen))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
        Ok(())
    }
}

/// Renders the screen as SVG.
fn svg(screen: &Screen) -> String {
    let (lines, columns) = screen.size();
    let width = (f64::from(columns) * CHARACTER.0).ceil() as u32 + 2 * MARGIN;
    let height = u32::from(lines) * CHARACTER.1 + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"The dashboard of pktvisor in a terminal\">\n\
         <style>text{{font:14px ui-monospace,\"DejaVu Sans Mono\",Menlo,Consolas,monospace}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for line in 0..lines {
        let cells = (0..columns).filter_map(|column| Some((column, screen.cell(line, column)?)));
        let cells: Vec<(u16, &Cell)> = cells.collect();
        for alike in cells.chunk_by(|(_, one), (_, next)| Look::of(one) == Look::of(next)) {
            // Writing to a String does not fail.
            let _ = piece(&mut svg, alike, line);
        }
    }
    svg + "</svg>\n"
}

/// Style of a character.
#[derive(PartialEq)]
struct Look {
    color: &'static str,
    bold: bool,
    dim: bool,
    underlined: bool,
    inverse: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let color = match cell.fgcolor() {
            Color::Idx(1 | 9) => "#f07178",
            Color::Idx(2 | 10) => "#98c379",
            Color::Idx(3 | 11) => "#e5c07b",
            Color::Idx(4 | 12) => "#82aaff",
            Color::Idx(5 | 13) => "#d991e8",
            Color::Idx(6 | 14) => "#5fc9d8",
            _ => "#d8dee9",
        };
        Self {
            color,
            bold: cell.bold(),
            dim: cell.dim(),
            underlined: cell.underline(),
            inverse: cell.inverse(),
        }
    }
}

/// Appends neighbouring cells of the same style. Spaces are left out and each character has its own
/// position, so that columns stay aligned in any font.
fn piece(svg: &mut String, cells: &[(u16, &Cell)], line: u16) -> std::fmt::Result {
    let Some(&(column, first)) = cells.first() else { return Ok(()) };
    let look = Look::of(first);
    let x = |column: u16| f64::from(MARGIN) + f64::from(column) * CHARACTER.0;
    let top = MARGIN + u32::from(line) * CHARACTER.1;
    let mut color = look.color;
    if look.inverse {
        let (x, width) = (x(column), cells.len() as f64 * CHARACTER.0);
        let height = CHARACTER.1;
        writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{color}\"/>"
        )?;
        color = BACKGROUND;
    }
    let (mut text, mut positions) = (String::new(), Vec::new());
    for &(column, cell) in cells {
        let symbol = cell.contents();
        if symbol.trim().is_empty() || cell.is_wide_continuation() {
            continue;
        }
        text += symbol;
        // SVG positions apply to UTF-16 code units (SVG 2, section 11.5).
        positions.extend(symbol.encode_utf16().map(|_| format!("{:.1}", x(column))));
    }
    if text.is_empty() {
        return Ok(());
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut style = String::new();
    for (is, attribute) in [
        (look.bold, " font-weight=\"bold\""),
        (look.dim, " opacity=\"0.6\""),
        (look.underlined, " text-decoration=\"underline\""),
    ] {
        style += if is { attribute } else { "" };
    }
    let (positions, y) = (positions.join(" "), top + 13);
    writeln!(svg, "<text x=\"{positions}\" y=\"{y}\" fill=\"{color}\"{style}>{text}</text>")
}
