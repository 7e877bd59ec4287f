//! The report of a view at several terminal widths.

use pktvisor_common::api::MetricsView;
use pktvisor_common::report::{Style, render};
use views::{evil, lossy, rich};

mod views;

const NARROW: Style = Style { color: false, width: 80 };
const WIDE: Style = Style { color: false, width: 120 };

#[test]
fn renders_rich_view() {
    insta::assert_snapshot!("rich_80", render("5m of localhost:10853", &rich(), NARROW));
    insta::assert_snapshot!("rich_120", render("5m of localhost:10853", &rich(), WIDE));
    insta::assert_snapshot!("rich_200", render("5m", &rich(), Style { color: false, width: 200 }));
}

#[test]
fn renders_empty_view() {
    insta::assert_snapshot!("empty_80", render("summary", &MetricsView::default(), NARROW));
}

#[test]
fn renders_lossy_view() {
    insta::assert_snapshot!("lossy_80", render("1m", &lossy(), NARROW));
    insta::assert_snapshot!("lossy_120", render("1m", &lossy(), WIDE));
}

#[test]
fn renders_view_with_hostile_names() {
    insta::assert_snapshot!("evil_80", render("1m\x1b[2J", &evil(), NARROW));
    insta::assert_snapshot!("evil_120", render("1m\x1b[2J", &evil(), WIDE));
}

#[test]
fn renders_view_in_colour() {
    let mut view = evil();
    view.capture.kernel_drops = 12;
    let report = render("1m", &view, Style { color: true, width: 80 });
    insta::assert_snapshot!("colour_80", report.replace('\x1b', "␛"));
}

#[test]
fn no_line_exceeds_the_width_or_controls_the_terminal() {
    for width in (38..=210).chain([1000]) {
        for view in [rich(), lossy(), evil(), MetricsView::default()] {
            let report = render("title", &view, Style { color: false, width });
            for line in report.lines() {
                let columns = unicode_width::UnicodeWidthStr::width(line);
                assert!(columns <= width, "{columns} > {width}: {line}");
                assert!(!line.chars().any(char::is_control), "{line:?}");
                assert!(!line.ends_with(' '), "{line:?}");
            }
        }
    }
}

#[test]
fn colour_adds_only_escape_sequences() {
    for view in [rich(), lossy(), evil()] {
        let coloured = render("title", &view, Style { color: true, width: 100 });
        let mut parts = coloured.split('\x1b');
        let mut bare = parts.next().unwrap_or_default().to_owned();
        bare.extend(parts.map(|part| part.split_once('m').unwrap().1));
        assert_eq!(bare, render("title", &view, Style { color: false, width: 100 }));
    }
}
