//! A terminal that is drawn on, and given back as it was: at the end, after a panic and after a signal.
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{cursor, execute, queue};
use std::io::{self, Stdout, Write};
use std::time::Duration;

/// The terminal, until it is dropped.
pub(crate) struct Screen(Stdout);

/// What a person did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Ctrl-C.
    Interrupt,
    /// A character.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Back,
    /// The screen has another size.
    Resized,
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on it is given back, whatever happens.
        let mut screen = Self(io::stdout());
        execute!(screen.0, EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Columns and lines.
    pub(crate) fn size(&self) -> (usize, usize) {
        // Some terminals say that they have none.
        let (columns, lines) = size()
            .ok()
            .filter(|&(w, h)| w > 0 && h > 0)
            .unwrap_or((80, 24));
        (columns.into(), lines.into())
    }

    /// Draws these lines in place of all that is there.
    pub(crate) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        queue!(self.0, cursor::MoveTo(0, 0))?;
        for (at, line) in lines.iter().enumerate() {
            let down = if at > 0 { "\r\n" } else { "" };
            write!(self.0, "{down}{line}")?;
            queue!(self.0, Clear(ClearType::UntilNewLine))?;
        }
        queue!(self.0, Clear(ClearType::FromCursorDown))?;
        self.0.flush()
    }

    /// Waits for a key for so long at most.
    pub(crate) fn key(&mut self, time: Duration) -> io::Result<Option<Key>> {
        if !poll(time)? {
            return Ok(None);
        }
        let key = match read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            Event::Resize(..) => return Ok(Some(Key::Resized)),
            _ => return Ok(None),
        };
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        Ok(match key.code {
            KeyCode::Char('c' | 'd') if with_control => Some(Key::Interrupt),
            KeyCode::Char(c) if !with_control => Some(Key::Char(c)),
            KeyCode::Enter => Some(Key::Enter),
            KeyCode::Esc => Some(Key::Escape),
            KeyCode::Backspace => Some(Key::Back),
            _ => None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody could be told if it fails.
        let _ = execute!(self.0, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}
