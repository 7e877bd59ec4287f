//! The terminal: taken over at the start and restored at the end, even after a panic.

use std::io::{self, Stdout, stdout};
use std::panic;
use std::sync::mpsc::Sender;

use crossterm::clipboard::CopyToClipboard;
use crossterm::cursor::Show;
use crossterm::event::{self, DisableMouseCapture, EnableMouseCapture};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::app::App;
use crate::event::Event;
use crate::guard::is_guarded;
use crate::view;

/// The terminal while the dashboard owns it.
pub(crate) struct Console(Terminal<CrosstermBackend<Stdout>>);

impl Console {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// Fails if the terminal cannot be set up.
    pub(crate) fn take() -> io::Result<Self> {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if is_guarded() {
                return;
            }
            // Exit whichever thread panics: the others would draw over the message.
            give_back();
            report(info);
            std::process::exit(101);
        }));
        enable_raw_mode()?;
        let entered = execute!(stdout(), EnterAlternateScreen, EnableMouseCapture);
        let terminal = entered.and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        terminal.map(Self).inspect_err(|_| give_back())
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// Fails if the terminal is gone.
    pub(crate) fn draw(&mut self, app: &mut App) -> io::Result<()> {
        let draw = |frame: &mut Frame<'_>| {
            app.size = (frame.area().width, frame.area().height);
            view::view(app, frame);
        };
        self.0.draw(draw).map(drop)
    }

    /// Makes the next frame redraw everything.
    ///
    /// # Errors
    /// Fails if the terminal is gone.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        give_back();
    }
}

/// Restores the terminal. Errors are ignored, because there is nobody to report them to.
fn give_back() {
    let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Copies a text to the clipboard, if the terminal supports it (OSC 52).
///
/// # Errors
/// Fails if the terminal is gone.
pub(crate) fn copy(text: &str) -> io::Result<()> {
    execute!(stdout(), CopyToClipboard::to_clipboard_from(text))
}

/// Starts threads that send events of keyboard, mouse and signals.
///
/// # Errors
/// Fails if signals cannot be caught or a thread cannot be started.
pub(crate) fn listen(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let ended = events.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if ended.send(Event::Ended).is_err() {
                return;
            }
        }
    })?;
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        loop {
            let event = match event::read() {
                Ok(event::Event::Key(key)) => Event::Key(key),
                Ok(event::Event::Mouse(mouse)) => Event::Mouse(mouse),
                Ok(event::Event::Resize(..)) => Event::Resized,
                Ok(_) => continue,
                // The terminal is gone.
                Err(_) => Event::Ended,
            };
            let last = matches!(event, Event::Ended);
            if events.send(event).is_err() || last {
                return;
            }
        }
    })?;
    Ok(())
}
