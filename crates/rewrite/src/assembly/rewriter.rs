// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known while assembly goes by.

use super::counters::{self, Counted};
use super::line::{self, Line, Transfer};
use super::x86_64::{self, Syntax};
use super::{arm64, sites, Branches, Form, Machine, Summary};
use std::io::{self, Write};

/// What the cold part of a function is made of, in order. There is none on arm64.
enum Event {
    /// A directive for call frame information, as a line.
    Cfi(Vec<u8>),
    /// A site.
    Site(Site),
}

struct Site {
    number: u64,
    /// It is the first of its function.
    first: bool,
    /// What is called, as the compiler says it.
    operand: Vec<u8>,
}

/// How the names of functions begin that LLVM makes of what many functions have in common.
const OUTLINED: &[u8] = b"OUTLINED_FUNCTION_";

/// Text that the assembler reads in another way than from the first line to the last.
#[derive(Default)]
struct Blocks {
    /// Between `#APP` and `#NO_APP`: the user's.
    inline: bool,
    /// Macros, repetitions and conditions that are open.
    open: u32,
    /// A comment over several lines, or a statement that is not understood, makes sure of nothing.
    lost: bool,
}

pub(super) struct Rewriter<W> {
    machine: Machine,
    output: W,
    summary: Summary,
    /// No line has been read.
    fresh: bool,
    blocks: Blocks,
    /// The syntax, if it is one that compilers select.
    syntax: Option<Syntax>,
    /// 64-bit code.
    long_mode: bool,
    /// The first line of the frame's information, if one is open.
    frame: Option<Vec<u8>>,
    events: Vec<Event>,
    /// The name that `.type` last said to be a function's.
    typed: Vec<u8>,
    /// The function whose code is read.
    function: Vec<u8>,
    /// Cold parts that this function has.
    parts: u32,
    /// This function has had a site.
    entered: bool,
    /// Tables of jump targets, on arm64.
    tables: arm64::Tables,
    /// Branches that have become longer.
    long: u64,
}

impl<W: Write> Rewriter<W> {
    pub(super) fn new(machine: Machine, output: W) -> Self {
        Self {
            machine,
            output,
            summary: Summary::default(),
            fresh: true,
            blocks: Blocks::default(),
            syntax: Some(Syntax::Att),
            long_mode: true,
            frame: None,
            events: Vec::new(),
            typed: Vec::new(),
            function: Vec::new(),
            parts: 0,
            entered: false,
            tables: arm64::Tables::default(),
            long: 0,
        }
    }

    /// Takes the next line, with its end.
    pub(super) fn line(&mut self, text: &[u8]) -> io::Result<()> {
        // An assembler that is told so by the first line does not take white space and comments out.
        if std::mem::take(&mut self.fresh) && text.starts_with(b"#NO_APP") {
            self.blocks.lost = true;
        }
        if self.blocks.lost {
            return self.keep(text);
        }
        let line = line::read(self.machine, text);
        if !matches!(line, Line::Other) {
            self.tables.end_of_row(&mut self.output)?;
        }
        match line {
            Line::InlineBegins => {
                // The user's text may go to another section.
                self.end_part_without_frame()?;
                self.blocks.inline = true;
            }
            Line::InlineEnds => self.blocks.inline = false,
            Line::Empty => {}
            Line::Directive(name, rest) => return self.directive(name, rest, text),
            Line::Label(label) if !self.blocks.inline => self.label(label),
            Line::Callback(transfer, operand) if self.is_compilers() => {
                if self.site(transfer, operand)? {
                    return Ok(());
                }
                return self.keep(text);
            }
            Line::Other if self.summary.sites > 0 && self.is_compilers() => {
                return self.instruction(text);
            }
            Line::Unknown => {
                self.unknown(text);
                return self.keep(text);
            }
            Line::Label(_) | Line::Callback(..) | Line::Other => return self.keep(text),
        }
        self.output.write_all(text)
    }

    /// Whether sites count.
    fn counts(&self) -> bool {
        self.machine == Machine::X86_64(Form::Counters)
    }

    /// Whether the compiler wrote what is read, and the assembler reads it once.
    fn is_compilers(&self) -> bool {
        !self.blocks.inline && self.blocks.open == 0
    }

    /// An instruction behind the first site.
    fn instruction(&mut self, text: &[u8]) -> io::Result<()> {
        let Machine::Arm64(branches) = self.machine else {
            return self.keep(text);
        };
        let long = match branches {
            Branches::Kept => None,
            Branches::Long => arm64::long(text, self.long),
        };
        self.summary.left += u64::from(line::names_callback(text));
        match long {
            Some(long) => {
                self.long += 1;
                self.tables.end_of_row(&mut self.output)?;
                self.output.write_all(long.as_bytes())
            }
            None => self.tables.instruction(text, &mut self.output),
        }
    }

    /// Copies a line that may have the callback's name in it.
    fn keep(&mut self, text: &[u8]) -> io::Result<()> {
        self.summary.left += u64::from(line::names_callback(text));
        self.output.write_all(text)
    }

    /// Several statements in one line, or the begin of a comment over several lines.
    fn unknown(&mut self, text: &[u8]) {
        if memchr::memmem::find(text, b"/*").is_some() {
            self.blocks.lost = !comments_end(text);
        }
    }

    fn label(&mut self, label: &[u8]) {
        if label == self.typed && label != self.function {
            self.function = label.to_owned();
            self.parts = 0;
            self.entered = false;
        }
    }

    fn directive(&mut self, name: &[u8], rest: &[u8], text: &[u8]) -> io::Result<()> {
        match name {
            b".macro" | b".rept" | b".rep" | b".irp" | b".irpc" => self.blocks.open += 1,
            b".endm" | b".endr" | b".endif" => {
                self.blocks.open = self.blocks.open.saturating_sub(1);
            }
            _ if name.starts_with(b".if") => self.blocks.open += 1,
            _ if self.blocks.open > 0 => {}
            // These hold until the next, whoever wrote them.
            b".intel_syntax" => {
                let plain = first_word(rest) == b"noprefix";
                self.syntax = plain.then_some(Syntax::Intel);
            }
            b".att_syntax" => {
                let plain = first_word(rest) != b"noprefix";
                self.syntax = plain.then_some(Syntax::Att);
            }
            b".code16" | b".code16gcc" | b".code32" => self.long_mode = false,
            b".code64" => self.long_mode = true,
            _ if self.blocks.inline => {}
            b".type" => self.function_type(rest),
            b".cfi_startproc" => {
                self.end_part_without_frame()?;
                self.frame = Some(text.to_owned());
            }
            b".cfi_endproc" => {
                self.output.write_all(text)?;
                // The last line may have no end; what is left is written when all was read.
                if text.ends_with(b"\n") {
                    self.end_part()?;
                    self.frame = None;
                }
                return Ok(());
            }
            // The exceptions of the function are not those of the cold part, and a label is one.
            b".cfi_personality"
            | b".cfi_personality_id"
            | b".cfi_lsda"
            | b".cfi_inline_lsda"
            | b".cfi_fde_data"
            | b".cfi_label"
            | b".cfi_sections" => {}
            _ if self.frame.is_some() && name.starts_with(b".cfi_") => {
                self.events.push(Event::Cfi(text.to_owned()));
            }
            b".text" | b".data" | b".bss" | b".section" | b".pushsection" | b".popsection"
            | b".previous" | b".subsection" => self.end_part_without_frame()?,
            b".size" if text.ends_with(b"\n") => {
                self.output.write_all(text)?;
                return self.end_part_without_frame();
            }
            _ if self.summary.sites > 0 && matches!(self.machine, Machine::Arm64(_)) => {
                if let Some(entry) = self.tables.entry(name, rest)? {
                    return self.output.write_all(&entry);
                }
            }
            _ => {}
        }
        self.output.write_all(text)
    }

    fn function_type(&mut self, rest: &[u8]) {
        let Some(comma) = memchr::memchr(b',', rest) else {
            return;
        };
        let (name, kind) = (line::trim(&rest[..comma]), line::trim(&rest[comma + 1..]));
        let is_function = kind.get(1..).is_some_and(|k| k.starts_with(b"function"));
        // A name in quotes may have any byte in it.
        if is_function && name.iter().all(|&byte| line::is_name(byte)) {
            self.typed = name.to_owned();
        }
    }

    /// Makes a check. `false` if this place needs a call.
    fn site(&mut self, transfer: Transfer, operand: &[u8]) -> io::Result<bool> {
        let number = self.summary.sites;
        match (self.machine, transfer) {
            (Machine::X86_64(_), _) => match (self.syntax, self.long_mode) {
                (Some(syntax), true) => self.x86_64_site(transfer, syntax, operand)?,
                _ => return Ok(false),
            },
            (Machine::Arm64(_), Transfer::Call) => arm64::check(&mut self.output, number)?,
            // This is the end of many places, which the caller's address tells apart.
            (Machine::Arm64(_), _) if self.function.starts_with(OUTLINED) => return Ok(false),
            (Machine::Arm64(_), Transfer::Jump) => {
                arm64::last_check(&mut self.output, number, self.frame.is_some())?;
            }
        }
        self.summary.sites += 1;
        Ok(true)
    }

    fn x86_64_site(
        &mut self,
        transfer: Transfer,
        syntax: Syntax,
        operand: &[u8],
    ) -> io::Result<()> {
        let number = self.summary.sites;
        let site = Event::Site(Site {
            number,
            first: !std::mem::replace(&mut self.entered, true),
            operand: operand.to_owned(),
        });
        match transfer {
            _ if self.counts() => {
                counters::count(&mut self.output, syntax, number)?;
                if transfer == Transfer::Jump {
                    self.output.write_all(b"\tret\n")?;
                }
                self.events.push(site);
            }
            Transfer::Call => {
                x86_64::check(&mut self.output, syntax, number)?;
                self.events.push(site);
            }
            // There is no frame any more, and the return address on the stack is the caller's: whom
            // the cold part calls wants the stack aligned.
            Transfer::Jump => {
                let framed = self.frame.is_some();
                let down = framed.then_some(&b"\t.cfi_adjust_cfa_offset 8\n"[..]);
                let up = framed.then_some(&b"\t.cfi_adjust_cfa_offset -8\n"[..]);
                x86_64::align(&mut self.output, syntax, true, down)?;
                x86_64::check(&mut self.output, syntax, number)?;
                x86_64::align(&mut self.output, syntax, false, up)?;
                self.output.write_all(b"\tret\n")?;
                self.events
                    .extend(down.map(|cfi| Event::Cfi(cfi.to_owned())));
                self.events.push(site);
                self.events.extend(up.map(|cfi| Event::Cfi(cfi.to_owned())));
            }
        }
        Ok(())
    }

    /// Writes the cold part of what was read, if no frame is open that it would belong to.
    fn end_part_without_frame(&mut self) -> io::Result<()> {
        match self.frame {
            Some(_) => Ok(()),
            None => self.end_part(),
        }
    }

    /// Writes the cold part of what was read, or its counters.
    fn end_part(&mut self) -> io::Result<()> {
        let is_site = |event: &Event| matches!(event, Event::Site(_));
        let Some(last) = self.events.iter().rposition(is_site) else {
            self.events.clear();
            return Ok(());
        };
        if self.counts() {
            let sites = self.events.drain(..).filter_map(|event| match event {
                Event::Site(Site { number, first, .. }) => Some(Counted { number, first }),
                Event::Cfi(_) => None,
            });
            return counters::tables(&mut self.output, &sites.collect::<Vec<_>>());
        }
        let name = self.part_name();
        let output = &mut self.output;
        x86_64::enter_cold(output)?;
        if let Some(name) = &name {
            x86_64::begin_function(output, name)?;
        }
        if let Some(begin) = &self.frame {
            output.write_all(begin)?;
        }
        for event in &self.events[..=last] {
            match event {
                Event::Cfi(directive) => output.write_all(directive)?,
                Event::Site(site) => x86_64::cold(output, site.number, &site.operand)?,
            }
        }
        if self.frame.is_some() {
            output.write_all(b"\t.cfi_endproc\n")?;
        }
        if let Some(name) = &name {
            x86_64::end_function(output, name)?;
        }
        x86_64::leave_cold(output)?;
        self.events.clear();
        Ok(())
    }

    /// The symbol of the next cold part. A function without frames may have several.
    fn part_name(&mut self) -> Option<Vec<u8>> {
        if self.function.is_empty() {
            return None;
        }
        let mut name = self.function.clone();
        name.extend(b".rkcov");
        if self.parts > 0 {
            name.extend(format!(".{}", self.parts).as_bytes());
        }
        self.parts += 1;
        Some(name)
    }

    /// Writes what is left when all was read.
    pub(super) fn finish(mut self) -> io::Result<Summary> {
        self.tables.end_of_row(&mut self.output)?;
        if self.summary.sites > 0 {
            // A frame that was not ended is an error of its own, which the assembler reports.
            self.output.write_all(b"\n")?;
            self.end_part()?;
            if self.counts() {
                counters::constructor(&mut self.output)?;
            } else {
                sites::write(&mut self.output, self.summary.sites)?;
            }
        }
        if self.counts() && self.summary.left > 0 {
            counters::callback(&mut self.output)?;
        }
        self.output.flush()?;
        Ok(self.summary)
    }
}

fn first_word(text: &[u8]) -> &[u8] {
    let length = text.iter().take_while(|&&byte| line::is_name(byte)).count();
    &text[..length]
}

/// Whether each comment that a line begins ends there.
fn comments_end(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, b"/*") {
        match memchr::memmem::find(&rest[at + 2..], b"*/") {
            Some(end) => rest = &rest[at + 2 + end + 2..],
            None => return false,
        }
    }
    true
}
