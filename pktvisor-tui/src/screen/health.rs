//! The *Health* screen: capture and losses.

use pktvisor_common::api::{AppMetrics, MetricsView};
use pktvisor_common::report::number::{bytes, duration, si};
use pktvisor_common::report::{losses, printable};

use super::fleet;
use crate::app::{Agent, App};
use crate::history::Sample;
use crate::panel::{Fact, Panel};
use crate::theme::Tone;

pub(super) fn panels(app: &App) -> Vec<Panel> {
    let Some(agent) = app.agent() else {
        let mut panels = vec![fleet::panel(app)];
        panels.extend(app.view().map(|view| lost(app, view, None)));
        return panels;
    };
    let mut panels = vec![connection(app, agent)];
    if let Some(answer) = &agent.answer {
        panels.push(daemon(agent, &answer.app));
        panels.push(interfaces(&answer.app));
        panels.push(outcomes(app, &answer.view));
        panels.push(app.chart_by_name("Losses", "/s", |s| &s.losses));
        panels.push(lost(app, &answer.view, agent.history.samples.back()));
    }
    panels
}

fn connection(app: &App, agent: &Agent) -> Panel {
    let mut facts = vec![Fact::new("address", printable(&agent.address))];
    match agent.answered {
        Some(at) => {
            let age = app.now.saturating_sub(at) / 1_000;
            let tone = agent.stale(app.now, app.interval).map_or(Tone::Good, |_| Tone::Warning);
            facts.push(Fact::new("last answer", format!("{} ago", duration(age))).tone(tone));
        }
        None => facts.push(Fact::new("last answer", "none yet").tone(Tone::Warning)),
    }
    if let Some((error, retry)) = &agent.failure {
        let wait = retry.saturating_sub(app.now).div_ceil(1_000);
        facts.push(Fact::new("error", printable(error)).tone(Tone::Loss));
        facts.push(Fact::new("next attempt", format!("in {}", duration(wait))));
    }
    Panel::facts("Connection", facts).wide()
}

fn daemon(agent: &Agent, metrics: &AppMetrics) -> Panel {
    let daemon = &metrics.app;
    let capture = &daemon.capture;
    let mut facts = vec![
        Fact::new("version", printable(&daemon.version)),
        Fact::new("uptime", duration((daemon.up_time_min * 60.0) as u64)),
        match daemon.single_summary {
            true => Fact::new("minutes kept", "single summary"),
            false => Fact::new("minutes kept", daemon.periods.to_string()),
        },
        match capture.finished {
            true => Fact::new("capture", format!("{}, ended", capture.source)).tone(Tone::Warning),
            false => Fact::new("capture", printable(&capture.source)),
        },
    ];
    if let Some(reason) = &capture.fallback {
        facts.push(Fact::new("fallback", printable(reason)).tone(Tone::Warning));
    }
    for fault in &capture.faults {
        facts.push(Fact::new("fault", printable(fault)).tone(Tone::Loss));
    }
    if capture.pending > 0 {
        let interfaces = format!("{} more pending", capture.pending);
        facts.push(Fact::new("interfaces", interfaces).tone(Tone::Warning));
    }
    if let Some(advice) = &capture.advice {
        facts.push(Fact::new("advice", printable(advice)).tone(Tone::Warning));
    }
    let sampled = |percent: f64| {
        let tone = if percent < 100.0 { Tone::Warning } else { Tone::Plain };
        (format!("{percent} %"), tone)
    };
    for (name, percent) in [
        ("inspected DNS", capture.sampling.dns_pct),
        ("inspected other", capture.sampling.rest_pct),
    ] {
        let (value, tone) = sampled(percent);
        facts.push(Fact::new(name, value).tone(tone));
    }
    facts.push(Fact::new("open transactions", si(metrics.dns.xact.open)));
    if let Some(key) = &daemon.fleet_key {
        facts.push(match key.public {
            true => Fact::new("fleet key", "none; distinct counts and lists can be forged")
                .tone(Tone::Warning),
            false => Fact::new("fleet key", printable(&key.fingerprint)),
        });
    }
    let process = &daemon.process;
    // Older daemons do not report this.
    if process.resident_bytes > 0 {
        let cpu =
            agent.history.cpu_pct.map_or("—".to_owned(), |cpu| format!("{cpu:.1} % of one core"));
        facts.push(Fact::new("CPU", cpu));
        facts.push(Fact::new("memory", bytes(process.resident_bytes)));
    }
    if let Some(history) = &daemon.history {
        let size = format!("{} of {}", bytes(history.bytes), bytes(history.max_bytes));
        facts.push(Fact::new("history", size));
        if history.lost_minutes > 0 {
            let lost = format!("{} minutes are missing", si(history.lost_minutes));
            facts.push(Fact::new("  lost", lost).tone(Tone::Loss));
        }
        if let Some(problem) = &history.problem {
            facts.push(Fact::new("  problem", printable(problem)).tone(Tone::Loss));
        }
    }
    if let Some(security) = &daemon.security {
        let capabilities = match &security.capabilities[..] {
            [] => "none".to_owned(),
            some => printable(&some.join(", ")),
        };
        facts.push(Fact::new("capabilities", capabilities));
        let sandbox = format!("Landlock {}, seccomp {}", security.landlock, security.seccomp);
        facts.push(Fact::new("sandbox", printable(&sandbox)));
    }
    Panel::facts("Daemon", facts).wide()
}

fn interfaces(metrics: &AppMetrics) -> Panel {
    let mut facts = Vec::new();
    for watched in &metrics.app.capture.watched {
        let hook = |hook: &Option<String>| hook.clone().unwrap_or_else(|| "—".to_owned());
        let hooks = match (&watched.ingress, &watched.egress) {
            (None, None) => "watched".to_owned(),
            (ingress, egress) => format!("{} in, {} out", hook(ingress), hook(egress)),
        };
        facts.push(Fact::new(printable(&watched.name), printable(&hooks)));
        if let Some(why) = &watched.one_sided {
            facts.push(Fact::new("  one side", printable(why)).tone(Tone::Dim));
        }
        for refused in &watched.refused {
            facts.push(Fact::new("  not used", printable(refused)).tone(Tone::Dim));
        }
    }
    if facts.is_empty() {
        facts.push(Fact::new("no interface is watched", "").tone(Tone::Loss));
    }
    Panel::facts("Interfaces", facts).wide()
}

fn outcomes(app: &App, view: &MetricsView) -> Panel {
    let total = view.packets.total;
    let fact = |(name, n): (&String, &u64)| app.part(&name.replace('_', " "), *n, total);
    let mut facts: Vec<Fact> = view.capture.outcomes.iter().map(fact).collect();
    facts.push(Fact::new("inspected", format!("{:.1} %", view.capture.sample_rate_pct)));
    let lag = view.capture.lag_ms;
    let tone = if lag > 1_000 { Tone::Warning } else { Tone::Plain };
    facts.push(Fact::new("lag", format!("{lag} ms")).tone(tone));
    Panel::facts("Packet outcomes", facts).note(app.count(total))
}

fn lost(app: &App, view: &MetricsView, now: Option<&Sample>) -> Panel {
    let mut facts: Vec<Fact> = losses(view)
        .into_iter()
        .map(|loss| {
            let rate = now.and_then(|now| now.losses.get(&loss.name)).copied().unwrap_or(0.0);
            let rate =
                if rate > 0.0 { format!(" ({}/s)", si(rate.ceil() as u64)) } else { String::new() };
            let value = format!("{}{rate}  {}", app.count(loss.count), loss.meaning);
            Fact::new(printable(&loss.name), value).tone(Tone::Loss)
        })
        .collect();
    if facts.is_empty() {
        facts.push(Fact::new("no losses", "").tone(Tone::Good));
    }
    Panel::facts("Losses", facts).wide()
}
