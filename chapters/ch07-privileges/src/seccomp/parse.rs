//! The text of a policy.
//!
//! ```text
//! # To the end of the line is a comment.
//! default errno EPERM
//! architectures native
//! flags log
//! allow read write exit_group
//! allow
//!     openat close     # a line that begins with a space goes on with the one before it
//! allow personality when arg0 in 0x0 0x8
//! allow clone when arg0 & 0x7e020000 == 0x0 unless CAP_SYS_ADMIN except s390x
//! errno ENOSYS clone3 unless CAP_SYS_ADMIN
//! allow arch_prctl on x86_64
//! allow ptrace since 4.8
//! notify mkdir
//! ```
//!
//! A line begins with what happens: `allow`, `log`, `errno NAME`, `trace NUMBER`, `notify`, `trap`,
//! `kill_thread`, `kill_process`. Then come the calls. After them, each at most once and in any order, where
//! the line counts:
//!
//! - `when CONDITION and CONDITION...`: where the arguments are such. A condition is `arg0 == 1`, or with
//!   `!=`, `<`, `<=`, `>`, `>=`; or `arg0 & MASK == 1`; or `arg0 in 1 2 3`, any of them.
//! - `with CAPABILITY...`: for a process that has all of them; `unless CAPABILITY...`: that has none of them.
//! - `on ARCHITECTURE...`: on such a machine; `except ARCHITECTURE...`: on other machines.
//! - `since VERSION`: with this kernel or a later one.
//!
//! `default` is what happens to all other calls, and must be there. `architectures` are those whose calls are
//! looked at; `native` is the machine's own and the others whose programs its kernel runs, and is what holds
//! where the line is missing. `flags` are those of seccomp(2): `tsync`, `log`, `spec_allow`,
//! `wait_killable_recv`.

use std::str::{FromStr, SplitWhitespace};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use nix::errno::Errno;

use super::architecture::Architecture;
use super::policy::{Action, Condition, Flag, Operator, Rule};
use super::template::{Line, Listed, Needs, Template};
use crate::capabilities::{Capability, CapabilitySet};

/// What may come after the calls.
const CLAUSES: [&str; 6] = ["when", "with", "unless", "on", "except", "since"];

/// A word, and where it stands.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    line: usize,
}

// ANCHOR: parse
impl FromStr for Template {
    type Err = Error;

    fn from_str(text: &str) -> Result<Template> {
        let (mut default, mut architectures, mut flags, mut lines) = (None, None, None, Vec::new());
        for statement in statements(text)? {
            let (first, rest) = statement.split_first().expect("a statement has a word");
            let once = |missing: bool| first.check(missing, "stands here a second time");
            match first.text {
                "default" => {
                    once(default.is_none())?;
                    let (action, rest) = action(&statement[1..], *first)?;
                    if let Some(word) = rest.first() {
                        return Err(word.wrong("stands after the default's action"));
                    }
                    default = Some(action);
                }
                "architectures" => {
                    once(architectures.is_none())?;
                    architectures = Some(rest.iter().map(listed).collect::<Result<Vec<_>>>()?);
                }
                "flags" => {
                    once(flags.is_none())?;
                    flags = Some(rest.iter().map(flag).collect::<Result<Vec<_>>>()?);
                }
                _ => lines.extend(rules(&statement)?),
            }
        }
        Ok(Template {
            default: default.context("the policy has no line `default ACTION`")?,
            architectures: architectures.unwrap_or(vec![Listed::Native]),
            flags: flags.unwrap_or_default(),
            lines,
        })
    }
}
// ANCHOR_END: parse

/// The words of each line, with those of the lines that go on with it.
fn statements(text: &str) -> Result<Vec<Vec<Word<'_>>>> {
    let mut statements: Vec<Vec<Word>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let plain = line.split('#').next().unwrap_or_default();
        let goes_on = plain.starts_with([' ', '\t']);
        let words: SplitWhitespace = plain.split_whitespace();
        let words: Vec<Word> = words.map(|text| Word { text, line: index + 1 }).collect();
        let Some(first) = words.first().copied() else { continue };
        match statements.last_mut() {
            Some(last) if goes_on => last.extend(words),
            None if goes_on => return Err(first.wrong("goes on with a line, and there is none before it")),
            _ => statements.push(words),
        }
    }
    Ok(statements)
}

// ANCHOR: rules
/// A line with an action: a rule, or one for each combination of the values after `in`.
fn rules(statement: &[Word]) -> Result<Vec<Line>> {
    let (action, rest) = action(statement, statement[0])?;
    let is_clause = |word: &Word| CLAUSES.contains(&word.text);
    let (names, mut rest) = rest.split_at(rest.iter().position(is_clause).unwrap_or(rest.len()));
    statement[0].check(!names.is_empty(), "names no system call")?;
    let names: Vec<String> = names.iter().map(|word| word.text.to_owned()).collect();

    let mut alternatives = vec![Vec::new()];
    let mut needs = Needs::default();
    let mut seen: Vec<&str> = Vec::new();
    while let Some((clause, after)) = rest.split_first() {
        clause.check(!seen.contains(&clause.text), "stands a second time in this line")?;
        seen.push(clause.text);
        let (words, next) = after.split_at(after.iter().position(is_clause).unwrap_or(after.len()));
        clause.check(!words.is_empty(), "has nothing after it")?;
        match clause.text {
            "when" => alternatives = conditions(words, *clause)?,
            "with" => needs.with = capabilities(words)?,
            "unless" => needs.unless = capabilities(words)?,
            "on" => needs.on = words.iter().map(architecture).collect::<Result<_>>()?,
            "except" => needs.except = words.iter().map(architecture).collect::<Result<_>>()?,
            _ => needs.since = Some(version(words)?),
        }
        rest = next;
    }
    let rule = |conditions| Rule { names: names.clone(), action, conditions };
    Ok(alternatives.into_iter().map(|list| Line { rule: rule(list), needs: needs.clone() }).collect())
}
// ANCHOR_END: rules

/// The action at the beginning, and what comes after it. `before` is named where there is nothing.
fn action<'a, 'b>(words: &'b [Word<'a>], before: Word) -> Result<(Action, &'b [Word<'a>])> {
    let (first, rest) = words.split_first().ok_or_else(|| before.wrong("has no action after it"))?;
    let action = Action::named(first.text).ok_or_else(|| {
        first.wrong("is no action: allow, log, errno, trace, notify, trap, kill_thread, kill_process")
    })?;
    if action.number().is_none() {
        return Ok((action, rest));
    }
    let (word, rest) = rest.split_first().ok_or_else(|| first.wrong("has no number after it"))?;
    let number = match action {
        Action::Errno(_) => {
            errno(word.text).map(u32::from).ok_or_else(|| word.wrong("is no errno such as EPERM"))?
        }
        _ => word.text.parse().map_err(|_| word.wrong("is no number"))?,
    };
    Ok((action.with_number(Some(number)).map_err(|error| anyhow!("line {}: {error}", word.line))?, rest))
}

/// What stands after `when`: the combinations, of each of which all must hold.
fn conditions(words: &[Word], when: Word) -> Result<Vec<Vec<Condition>>> {
    let mut combinations: Vec<Vec<Condition>> = vec![Vec::new()];
    for words in words.split(|word| word.text == "and") {
        let alternatives = condition(words, when)?;
        // A rule in which one argument is compared twice counts, as runc has it, where one of the two is so.
        // Who writes `and` means both.
        let again = |known: &Condition| known.argument == alternatives[0].argument;
        words[0].check(!combinations[0].iter().any(again), "is compared twice in one line")?;
        combinations = combinations
            .iter()
            .flat_map(|list| alternatives.iter().map(|one| [list.as_slice(), &[*one]].concat()))
            .collect();
    }
    Ok(combinations)
}

/// One comparison: one condition, or one for each value after `in`.
fn condition(words: &[Word], when: Word) -> Result<Vec<Condition>> {
    let first = words.first().ok_or_else(|| when.wrong("wants conditions, with `and` between them"))?;
    let argument = first.text.strip_prefix("arg").and_then(|digit| digit.parse().ok());
    let argument = argument
        .filter(|number: &u8| *number < 6)
        .ok_or_else(|| first.wrong("is no argument: arg0 to arg5"))?;
    let condition = |operator, value, value_two| Condition { argument, operator, value, value_two };
    match words {
        [_, list, values @ ..] if list.text == "in" && !values.is_empty() => {
            values.iter().map(|word| Ok(condition(Operator::Equal, value(word)?, 0))).collect()
        }
        [_, and, mask, equal, wanted] if and.text == "&" && equal.text == "==" => {
            Ok(vec![condition(Operator::MaskedEqual, value(mask)?, value(wanted)?)])
        }
        [_, sign, wanted] => {
            let operator = Operator::signed(sign.text)
                .ok_or_else(|| sign.wrong("compares nothing: == != < <= > >= in, or & MASK =="))?;
            Ok(vec![condition(operator, value(wanted)?, 0)])
        }
        _ => Err(first.wrong("is compared as arg0 == 1, arg0 & MASK == 1 or arg0 in 1 2 3, with spaces")),
    }
}

/// A number, also in hexadecimal.
fn value(word: &Word) -> Result<u64> {
    let parsed = match word.text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.text.parse(),
    };
    parsed.map_err(|_| word.wrong("is no number such as 8 or 0x8"))
}

fn capabilities(words: &[Word]) -> Result<CapabilitySet> {
    let parse = |word: &Word| word.text.parse::<Capability>().with_context(|| format!("line {}", word.line));
    words.iter().map(parse).collect()
}

fn architecture(word: &Word) -> Result<Architecture> {
    Architecture::named(word.text).ok_or_else(|| word.wrong("is no architecture such as x86_64 or aarch64"))
}

fn listed(word: &Word) -> Result<Listed> {
    if word.text == "native" { Ok(Listed::Native) } else { architecture(word).map(Listed::One) }
}

fn flag(word: &Word) -> Result<Flag> {
    Flag::named(word.text).ok_or_else(|| word.wrong("is no flag: tsync, log, spec_allow, wait_killable_recv"))
}

/// A kernel's: `4.8`.
fn version(words: &[Word]) -> Result<(u32, u32)> {
    let [word] = words else { bail!("line {}: one version stands after `since`", words[0].line) };
    let parsed =
        word.text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.ok_or_else(|| word.wrong("is no version such as 4.8"))
}

/// An errno by its name or its number.
fn errno(text: &str) -> Option<u16> {
    let by_name = || (1..=Action::MAX_ERRNO).find(|number| errno_name(*number) == text);
    text.parse().ok().or_else(by_name)
}

/// `EPERM`; a number without a name as it is.
pub(super) fn errno_name(number: u16) -> String {
    match Errno::from_raw(number.into()) {
        Errno::UnknownErrno => number.to_string(),
        errno => format!("{errno:?}"),
    }
}

impl Word<'_> {
    fn wrong(&self, what: &str) -> Error {
        anyhow!("line {}: {:?} {what}", self.line, self.text)
    }

    fn check(&self, is_right: bool, what: &str) -> Result<()> {
        ensure!(is_right, self.wrong(what));
        Ok(())
    }
}
