//! Tests of the dashboard without terminal, network or clock: keys, and snapshots of frames.

mod fleet;
mod keys;
mod past;
mod screens;
#[path = "../../../pktvisor-common/tests/report/views.rs"]
mod views;

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use pktvisor_common::api::{
    App as Daemon, AppMetrics, CaptureInfo, DnsRate, MetricsView, Process, Rates, RatesInOut,
    Security, Watched,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::app::App;
use crate::client::Period;
use crate::event::{Answer, Effect, Event};
use crate::theme::Theme;
use crate::update::update;

/// Returns a dashboard of this many daemons, none of which has answered yet.
fn app(daemons: usize, size: (u16, u16)) -> App {
    let addresses = (0..daemons).map(|n| format!("dns{n}.example.net:10853")).collect();
    let mut app = App::new(addresses, Period::Window(5), 1_000, Theme::Dark);
    app.size = size;
    app
}

/// Returns an answer with this view at a second. Its rates differ from second to second.
fn answer(view: &MetricsView, second: u64) -> Answer {
    let wave = |base: u64| base + base * (second % 20) / 20;
    let rates = |base: u64| RatesInOut {
        inbound: wave(base),
        outbound: wave(base) * 9 / 10,
        total: wave(base) + wave(base) * 9 / 10,
    };
    let watched = Watched {
        name: "eth0".to_owned(),
        ingress: Some("tcx".to_owned()),
        egress: Some("tcx".to_owned()),
        refused: vec![
            "xdp on eth0 for received packets: not supported by the driver of the interface"
                .to_owned(),
        ],
        one_sided: None,
    };
    let capture = CaptureInfo {
        source: "ebpf".to_owned(),
        interfaces: vec!["eth0".to_owned()],
        watched: vec![watched],
        ..CaptureInfo::default()
    };
    let daemon = Daemon {
        version: "0.1.0".to_owned(),
        periods: 5,
        up_time_min: 125.5,
        capture,
        process: Process { cpu_seconds: second as f64 * 0.05, resident_bytes: 31_000_000 },
        security: Some(Security {
            user: None,
            capabilities: Vec::new(),
            landlock: "on".to_owned(),
            seccomp: "on".to_owned(),
        }),
        ..Daemon::default()
    };
    let mut live = view.clone();
    live.period.start_ts = 1_700_000_000;
    live.period.length = second;
    for entry in live.dns.top_rcode.iter_mut().chain(&mut live.dns.top_qtype) {
        entry.estimate = entry.estimate * second / 60;
    }
    Answer {
        period: Period::Window(5),
        view: view.clone(),
        past: None,
        missing: Vec::new(),
        live,
        rates: Rates {
            packets: rates(20_000),
            bytes: rates(4_000_000),
            dns: DnsRate { total: wave(12_000) },
        },
        app: AppMetrics { app: daemon, ..AppMetrics::default() },
        asked: Period::Window(5),
        part: None,
    }
}

/// Delivers a minute of answers of one daemon.
fn minute(app: &mut App, agent: usize, view: &MetricsView) {
    for second in 1..=60 {
        let answer = Box::new(answer(view, second));
        update(app, Event::Answered { agent, at: second * 1_000, answer });
    }
}

/// Returns a dashboard after a minute of answers of one daemon.
fn watching(view: &MetricsView, size: (u16, u16)) -> App {
    let mut app = app(1, size);
    minute(&mut app, 0, view);
    app
}

fn press(app: &mut App, code: KeyCode) -> Vec<Effect> {
    update(app, Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn fail(app: &mut App, agent: usize, at: u64) {
    let error = "dns0.example.net:10853 refused the connection: is pktvisord running there?";
    let (error, retry) = (error.to_owned(), Duration::from_secs(4));
    update(app, Event::Failed { agent, at, error, retry, asked: app.period });
}

/// Returns the text of the frame, line by line.
fn frame(app: &App) -> String {
    let mut terminal = Terminal::new(TestBackend::new(app.size.0, app.size.1)).unwrap();
    terminal.draw(|frame| crate::view::view(app, frame)).unwrap();
    let text = terminal.backend().to_string();
    // The backend prints each line in quotation marks.
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end().to_owned() + "\n");
    lines.collect()
}
