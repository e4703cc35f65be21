//! The invariants of a program, each checked once, when its text becomes a type.

use std::collections::HashSet;

use super::{MAX_ELEMENTS, MAX_STEPS, Program, ProgramError, Step, Value};

impl Program {
    pub(super) fn check(&self) -> Result<(), ProgramError> {
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            return Err(ProgramError::new(
                "steps",
                format!("expected 1 to {MAX_STEPS}, got {}", self.steps.len()),
            ));
        }
        for (id, value) in self.values.iter().enumerate() {
            let elements = value
                .shape
                .iter()
                .try_fold(1usize, |n, &d| n.checked_mul(d));
            if !elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) {
                return Err(ProgramError::new(
                    format!("value {id}"),
                    format!(
                        "expected 1 to {MAX_ELEMENTS} elements, got shape {:?}",
                        value.shape
                    ),
                ));
            }
            if !(8..=31).contains(&value.ring_bits) {
                return Err(ProgramError::new(
                    format!("value {id}"),
                    format!("expected a ring of 8 to 31 bits, got {}", value.ring_bits),
                ));
            }
        }
        let mut names = HashSet::new();
        let mut made = vec![false; self.values.len()];
        for (position, step) in self.steps.iter().enumerate() {
            let name = step.name();
            if name.is_empty() || name.len() > 200 || !names.insert(name) {
                return Err(ProgramError::new(
                    format!("step {position}"),
                    "expected a unique name of 1 to 200 bytes".to_string(),
                ));
            }
            if (position == 0) != matches!(step, Step::Input(_)) {
                return Err(ProgramError::new(
                    name,
                    "expected exactly one input, as the first step",
                ));
            }
            if step
                .inputs()
                .iter()
                .any(|&id| !made.get(id).copied().unwrap_or(false))
            {
                return Err(ProgramError::new(
                    name,
                    "expected inputs that an earlier step makes",
                ));
            }
            if let Some(out) = step.output() {
                match made.get_mut(out) {
                    Some(slot) if !*slot => *slot = true,
                    _ => {
                        return Err(ProgramError::new(
                            name,
                            "expected an output value that is made once",
                        ));
                    }
                }
            }
            self.check_step(step)?;
        }
        if !self.steps.iter().any(|s| matches!(s, Step::Output(_))) {
            return Err(ProgramError::new("steps", "expected at least one output"));
        }
        Ok(())
    }

    fn check_step(&self, step: &Step) -> Result<(), ProgramError> {
        let expect = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(ProgramError::new(step.name(), format!("expected {what}")))
            }
        };
        match step {
            Step::Input(_) | Step::Output(_) => Ok(()),
            Step::Linear(s) => {
                let shape = self.conv_shape(s)?;
                let (input, out) = (self.value(s.input), self.value(s.out));
                expect(
                    input.ring_bits == out.ring_bits,
                    "the same ring before and after",
                )?;
                expect(
                    out.shape[1] == shape.out_height() && out.shape[2] == shape.out_width(),
                    "an output shape that follows from kernel, stride, dilation and padding",
                )
            }
            Step::Truncate(s) => {
                let (input, out) = (self.value(s.input), self.value(s.out));
                expect(input.shape == out.shape, "the same shape before and after")?;
                expect(
                    s.shift >= 1 && s.shift + 3 <= input.ring_bits,
                    "a shift of 1 to ring_bits - 3",
                )
            }
            Step::Relu(s) | Step::ReluClipped(s) => {
                let (input, out) = (self.value(s.input), self.value(s.out));
                expect(input.shape == out.shape, "the same shape before and after")?;
                // what is extended fills half of the ring at most
                let room = u32::from(out.ring_bits > input.ring_bits);
                self.check_window(s.window, input.ring_bits - room, step)
            }
            Step::MaxPool(s) => {
                let (input, out) = (self.value(s.input), self.value(s.out));
                expect(
                    out.ring_bits == input.ring_bits,
                    "the same ring before and after",
                )?;
                self.check_pool(input, out, (s.pool, s.stride, s.padding), step)?;
                self.check_window(s.window, input.ring_bits, step)
            }
            Step::SumPool(s) => {
                let (input, out) = (self.value(s.input), self.value(s.out));
                expect(
                    out.ring_bits == input.ring_bits,
                    "the same ring before and after",
                )?;
                self.check_pool(input, out, (s.pool, s.stride, s.padding), step)
            }
            Step::Add(s) => {
                let out = self.value(s.out);
                expect(
                    !s.inputs.is_empty() && s.inputs.len() == s.shift.len(),
                    "one shift per input",
                )?;
                expect(
                    s.inputs.iter().all(|&id| self.value(id).shape == out.shape),
                    "inputs of the output's shape",
                )?;
                expect(
                    s.shift.iter().all(|&f| f < out.ring_bits),
                    "shifts below ring_bits",
                )?;
                expect(
                    s.inputs
                        .iter()
                        .all(|&id| self.value(id).ring_bits >= out.ring_bits),
                    "a ring that does not grow",
                )
            }
            Step::Concat(s) => {
                let out = self.value(s.out);
                let same_map = s
                    .inputs
                    .iter()
                    .all(|&id| self.value(id).shape[1..] == out.shape[1..]);
                let channels: usize = s.inputs.iter().map(|&id| self.value(id).shape[0]).sum();
                expect(
                    same_map && channels == out.shape[0],
                    "inputs of one map size whose channels add up",
                )?;
                expect(
                    s.inputs
                        .iter()
                        .all(|&id| self.value(id).ring_bits >= out.ring_bits),
                    "a ring that does not grow",
                )
            }
            Step::Subsample(s) => {
                let (input, out) = (self.value(s.input), self.value(s.out));
                expect(s.stride.iter().all(|&d| d >= 1), "strides of 1 or more")?;
                let shape = [
                    input.shape[0],
                    input.shape[1].div_ceil(s.stride[0]),
                    input.shape[2].div_ceil(s.stride[1]),
                ];
                expect(
                    out.shape == shape && out.ring_bits == input.ring_bits,
                    "every stride-th pixel in the same ring",
                )
            }
        }
    }

    fn check_window(
        &self,
        [low, high]: [u32; 2],
        ring_bits: u32,
        step: &Step,
    ) -> Result<(), ProgramError> {
        if high <= ring_bits && high >= low + 2 && high <= low + 16 {
            return Ok(());
        }
        Err(ProgramError::new(
            step.name(),
            format!(
                "expected a window of 2 to 16 bits inside {ring_bits} bits, got [{low}, {high})"
            ),
        ))
    }

    fn check_pool(
        &self,
        input: &Value,
        out: &Value,
        (pool, stride, padding): ([usize; 2], [usize; 2], [usize; 4]),
        step: &Step,
    ) -> Result<(), ProgramError> {
        let size = |extent: usize, axis: usize| {
            let padded = extent
                .checked_add(padding[2 * axis])?
                .checked_add(padding[2 * axis + 1])?;
            let inside = padding[2 * axis] < pool[axis] && padding[2 * axis + 1] < pool[axis];
            (stride[axis] >= 1 && inside && padded >= pool[axis])
                .then(|| (padded - pool[axis]) / stride[axis] + 1)
        };
        let shape = (size(input.shape[1], 0), size(input.shape[2], 1));
        if out.shape[0] == input.shape[0] && shape == (Some(out.shape[1]), Some(out.shape[2])) {
            return Ok(());
        }
        Err(ProgramError::new(
            step.name(),
            "expected an output shape that follows from pool, stride and padding",
        ))
    }
}
