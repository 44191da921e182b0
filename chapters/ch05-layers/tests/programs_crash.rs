//! Claim: what two programs write at once is all there, and what was synced is there after the server was
//! killed.

#[path = "programs/mounted.rs"]
mod mounted;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mounted::{LIMIT, Mounted};
use testing::{needs, poll};

/// Each way in which file data takes.
const WAYS: [&[&str]; 2] = [&[], &["--no-passthrough"]];

#[test]
fn sqlite_keeps_its_write_ahead_journal() {
    needs!(Root, Fuse, Tool("sqlite3"));
    for way in WAYS {
        // The database lies in the read-only branch, so the first who opens it for writing copies it up.
        let mounted = Mounted::with(way, |mounted| {
            let script = "PRAGMA journal_mode=WAL; CREATE TABLE number (value INTEGER, writer INTEGER);";
            let database = mounted.lower().join("database");
            let output = testing::Program::new("sqlite3").arg(&database).arg(script).run();
            assert_eq!(output.code, Some(0), "{output}");
        });
        // Writers in processes of their own take turns by locks, share an index by mmap(2), and read while
        // others write.
        let output = mounted.shell(
            "for writer in 1 2 3; do
                 for value in $(seq 40); do
                     echo \"INSERT INTO number VALUES ($value, $writer); SELECT count(*) FROM number;\"
                 done > script$writer
             done
             pids=
             for writer in 1 2 3; do
                 sqlite3 -cmd '.timeout 60000' database < script$writer > counts$writer &
                 pids=\"$pids $!\"
             done
             for pid in $pids; do wait $pid; done
             sqlite3 database 'PRAGMA journal_mode; PRAGMA integrity_check; SELECT sum(value), count(*) FROM number'
             for writer in 1 2 3; do sort --numeric-sort --check=quiet counts$writer; done",
        );
        assert_eq!(output.stdout, "wal\nok\n2460|120\n", "{way:?} {output}");
        mounted.end();
    }
}

#[test]
fn two_writers_at_once_lose_nothing() {
    needs!(Root, Fuse);
    for way in WAYS {
        let mounted = Mounted::with(way, |mounted| {
            for number in 0..50 {
                fs::write(mounted.lower().join(format!("file{number}")), "0\n").expect("write");
            }
        });
        // Both meet at the same moment at files that must be copied up: the copy must be made once, and no
        // line that the first has appended may be overwritten by the second's copy.
        let output = mounted.shell(
            "write() {
                 for number in $(seq 0 49); do
                     for line in 1 2 3 4; do echo $1 >> file$number; done
                     mkdir -p shared/$number
                     echo $1 > shared/$number/$1
                 done
             }
             write 1 & one=$!
             write 2 & two=$!
             wait $one
             wait $two
             for number in $(seq 0 49); do sort file$number | uniq -c | tr -d '\\n '; ls shared/$number | wc -l; done \\
                 | sort | uniq -c | tr -s ' '",
        );
        assert_eq!(output.stdout, " 50 1041422\n", "{way:?} {output}");
        mounted.end();
    }
}

/// Writes records to `file`, each synced, until it can't any more. Counts in `synced` those that are promised
/// to stay.
fn append_records(file: &Path, synced: &AtomicUsize) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(file)?;
    for number in 0.. {
        writeln!(file, "record {number}")?;
        file.sync_all()?;
        synced.store(number + 1, Ordering::SeqCst);
    }
    Ok(())
}

/// Replaces `file`, as editors and databases do: a new file, synced, renamed over the old one, the directory
/// synced.
fn replace_files(file: &Path, synced: &AtomicUsize) -> std::io::Result<()> {
    for number in 1.. {
        let new = file.with_extension("new");
        let mut content = File::create(&new)?;
        write!(content, "{}", number.to_string().repeat(5000))?;
        content.sync_all()?;
        fs::rename(&new, file)?;
        File::open(file.parent().expect("a directory"))?.sync_all()?;
        synced.store(number, Ordering::SeqCst);
    }
    Ok(())
}

#[test]
fn the_death_of_the_server_loses_nothing_that_was_synced() {
    needs!(Root, Fuse);
    for way in WAYS {
        let mut mounted = Mounted::with(way, |mounted| {
            fs::write(mounted.lower().join("log"), "record before\n").expect("write");
            fs::write(mounted.lower().join("replaced"), "0".repeat(5000)).expect("write");
            fs::write(mounted.lower().join("big"), vec![b'b'; 1 << 24]).expect("write");
        });
        for round in 0..4 {
            let (records, replaced) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let log = mounted.seen(&format!("log{round}"));
            fs::copy(mounted.lower().join("log"), &log).expect("copy");
            let paths = (log, mounted.seen("replaced"), mounted.seen("big"));
            thread::scope(|scope| {
                let append = scope.spawn(|| append_records(&paths.0, &records));
                let replace = scope.spawn(|| replace_files(&paths.1, &replaced));
                // The server dies in the middle of this copy-up, or before or after it.
                let copy_up = scope.spawn(|| OpenOptions::new().append(true).open(&paths.2).map(drop));
                let start = Instant::now();
                let busy = || records.load(Ordering::SeqCst) > 5 && replaced.load(Ordering::SeqCst) > 5;
                poll(LIMIT, || (busy() && start.elapsed() > Duration::from_millis(round * 10)).then_some(()));
                let output = mounted.kill_server();
                assert_ne!(output.code, Some(0), "the death of the server was not told\n{output}");
                assert!(output.stderr.contains("signal 9"), "{output}");
                // Nobody answers any more: the writers got an error, and do not wait for ever.
                append.join().expect("no panic").expect_err("written without a server");
                replace.join().expect("no panic").expect_err("written without a server");
                let _ = copy_up.join().expect("no panic");
            });
            mounted.mount();

            let log = fs::read_to_string(mounted.seen(&format!("log{round}"))).expect("read");
            let synced = (0..records.into_inner()).map(|number| format!("record {number}\n"));
            let synced = "record before\n".to_string() + &synced.collect::<String>();
            assert!(log.starts_with(&synced), "synced:\n{synced}found:\n{log}");

            let found = fs::read_to_string(mounted.seen("replaced")).expect("read");
            let synced = replaced.into_inner();
            // The one that was synced last, or the next one as a whole.
            let whole = [synced, synced + 1].map(|number| number.to_string().repeat(5000));
            assert!(whole.contains(&found), "synced {synced}, found {} bytes: {:.20}", found.len(), found);

            let big = fs::read(mounted.seen("big")).expect("read");
            assert!(
                big.len() == 1 << 24 && big.iter().all(|byte| *byte == b'b'),
                "half of a file was copied up"
            );
        }
        mounted.end();
    }
}
