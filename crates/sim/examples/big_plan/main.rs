//! Plans and rollouts of a fleet that never was: `big_plan plan HOSTS RUNS`, `big_plan rollout SHAPE HOSTS PERCENT`,
//! `big_plan gate HOSTS PERCENT`. What `cargo xtask bench plan` measures.
//!
//! Hosts fall into cohorts as they do in life, a few large ones and a long tail (Zipf); one cohort a fifty hosts. Each
//! host has 400 packages, of which 300 have an upgrade pending, and about 90 findings. The same numbers give the same
//! fleet. Prints one line a figure: name, value, unit.

mod fleet;
mod rollout;

use fettle_core::plan::Plan;
use fleet::{Shape, World};
use std::error::Error;
use std::time::Instant;

/// A field of `/proc/self/status`, in MiB.
fn memory(field: &str) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with(field)).ok_or("no such field")?;
    let kib: String = line.chars().filter(char::is_ascii_digit).collect();
    Ok(kib.parse::<f64>()? / 1024.0)
}

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Time on the processors, of all threads, in ms: what else runs on the machine does not count. In steps of a tick of
/// 10 ms: fields `utime` and `stime` of proc_pid_stat(5).
fn on_cpu() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = text.rsplit_once(") ").ok_or("no name in stat")?.1;
    let ticks = |n: usize| after_name.split(' ').nth(n).unwrap_or_default().parse::<f64>();
    Ok((ticks(11)? + ticks(12)?) * 10.0)
}

fn plan(hosts: usize, runs: usize) -> Result<(), Box<dyn Error>> {
    let world = World::of(hosts, Shape::Rings)?;
    let (cohorts, pending) = world.size();
    println!("cohorts\t{cohorts}\tcohorts");
    println!("pending upgrades\t{pending}\tupgrades");
    let before = memory("VmRSS")?;
    println!("fleet\t{before}\tMiB");
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    let mut plan = None;
    for _ in 0..runs.max(1) {
        // The one before is gone first: a server holds one.
        drop(plan.take());
        let (began, busy) = (Instant::now(), on_cpu()?);
        plan = Some(world.plan());
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        cpu.push(on_cpu()? - busy);
    }
    let plan = plan.ok_or("no plan")?;
    println!("make\t{}\tms", median(times));
    println!("make, on the processor\t{}\tms", median(cpu));
    println!("peak\t{}\tMiB", memory("VmHWM")?);
    println!("more than the fleet\t{}\tMiB", memory("VmHWM")? - before);
    let began = Instant::now();
    let digest = plan.digest();
    println!("digest\t{}\tms", began.elapsed().as_secs_f64() * 1000.0);
    let began = Instant::now();
    let text = serde_json::to_string(&plan)?;
    println!("write\t{}\tms", began.elapsed().as_secs_f64() * 1000.0);
    println!("document\t{}\tMB", text.len() as f64 / 1e6);
    let began = Instant::now();
    let again: Plan = serde_json::from_str(&text)?;
    println!("read\t{}\tms", began.elapsed().as_secs_f64() * 1000.0);
    println!("hosts\t{}\thosts", plan.hosts.len());
    println!("waves\t{}\twaves", plan.waves.len());
    if again.digest() != digest {
        return Err("the plan that was read is another".into());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["plan", hosts, runs] => plan(hosts.parse()?, runs.parse()?),
        ["rollout", shape, hosts, percent] => {
            rollout::events(Shape::of(shape)?, hosts.parse()?, percent.parse()?)
        }
        ["gate", hosts, percent] => rollout::gate(hosts.parse()?, percent.parse()?),
        _ => {
            Err("big_plan plan HOSTS RUNS, rollout SHAPE HOSTS PERCENT, or gate HOSTS PERCENT"
                .into())
        }
    }
}
