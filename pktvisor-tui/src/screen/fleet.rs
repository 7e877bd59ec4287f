//! The panel of the fleet, with a line for each daemon.

use pktvisor_common::report::number::{duration, si};
use pktvisor_common::report::{losses, printable};

use crate::app::App;
use crate::panel::{Fact, Panel};
use crate::theme::Tone;

pub(super) fn panel(app: &App) -> Panel {
    let facts = app.agents.iter().map(|agent| {
        let name = printable(&agent.address);
        let Some(answer) = &agent.answer else {
            let why = agent.failure.as_ref().map_or("waiting", |(error, _)| error.as_str());
            return Fact::new(name, printable(why)).tone(Tone::Loss);
        };
        let rates = &answer.rates;
        let mut value = format!(
            "in {}/s  out {}/s  DNS {}/s",
            si(rates.packets.inbound),
            si(rates.packets.outbound),
            si(rates.dns.total)
        );
        let lost =
            losses(&answer.view).iter().fold(0, |sum: u64, loss| sum.saturating_add(loss.count));
        let mut tone = Tone::Plain;
        if lost > 0 {
            tone = Tone::Loss;
            value = format!("{value}  lost {}", si(lost));
        }
        if let Some(age) = agent.stale(app.now, app.interval) {
            tone = Tone::Warning;
            value = format!("{value}  silent for {}", duration(age / 1_000));
        }
        Fact::new(name, value).tone(tone)
    });
    let mut panel = Panel::facts("Daemons", facts.collect()).wide();
    let (answering, merged, all) = (app.answering(), app.fleet.merged, app.agents.len());
    panel.note = format!("{answering} of {all} answer");
    if merged < answering {
        panel.note = format!("{}, {merged} merged", panel.note);
    }
    if let Some(problem) = app.fleet.problems.first() {
        panel.note = format!("{}; {}", panel.note, printable(problem));
    }
    panel
}
