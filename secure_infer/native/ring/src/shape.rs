//! The geometry of a convolution, and its reading as stride-1 convolutions of phases.

/// What a convolution is, unchecked: [`ConvShape::new`] turns it into a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Channels of the input.
    pub in_channels: usize,
    /// Rows of the input, without padding.
    pub in_height: usize,
    /// Columns of the input, without padding.
    pub in_width: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Vertical and horizontal distance of taps.
    pub dilation: [usize; 2],
    /// Rows or columns of zeros: top, bottom, left, right.
    pub padding: [usize; 4],
    /// Groups that input and output channels fall into; `in_channels` of them is depthwise.
    pub groups: usize,
}

/// A convolution that does not exist or is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A size of zero where at least one is needed.
    #[error("{0}: expected at least 1, got 0")]
    Zero(&'static str),
    /// Channels that the groups do not divide.
    #[error("groups: expected a divisor of {channels} channels, got {groups}")]
    Groups {
        /// Input or output channels.
        channels: usize,
        /// Groups asked for.
        groups: usize,
    },
    /// A kernel larger than the padded input.
    #[error("kernel: expected to fit {padded} padded pixels, got a reach of {reach}")]
    Kernel {
        /// Pixels of the padded input along the axis.
        padded: usize,
        /// Pixels that the kernel spans along it.
        reach: usize,
    },
    /// A tensor above [`ConvShape::MAX_ELEMENTS`].
    #[error("{0}: expected at most 2^26 elements")]
    TooLarge(&'static str),
}

/// A checked convolution: every size is positive, the kernel fits, and no tensor exceeds 2^26 elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    spec: ConvSpec,
}

/// One position of the kernel: the pixel at `offset` further in the raster of phase `phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// Index into [`Phases::origins`].
    pub phase: usize,
    /// Distance in the raster of the phase.
    pub offset: usize,
}

/// A strided convolution as a stride-1 convolution: every channel's padded raster falls into sub-rasters
/// (*phases*), of which only those that a tap touches are listed.
///
/// Output pixel (y, x) sits at raster index `y * width + x`, and the taps of that output read the rasters at
/// `y * width + x + tap.offset`, which is always below `height * width`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phases {
    /// First row and column of each phase used.
    pub origins: Vec<[usize; 2]>,
    /// Rows of a phase's raster.
    pub height: usize,
    /// Columns of a phase's raster.
    pub width: usize,
    /// Taps in the order of the kernel's weights (row, column).
    pub taps: Vec<Tap>,
    stride: [usize; 2],
    padded: [usize; 2],
}

impl ConvShape {
    /// Largest number of elements of a tensor (padded input, output, weights).
    pub const MAX_ELEMENTS: usize = 1 << 26;

    /// Checks a convolution.
    ///
    /// # Errors
    /// [`ShapeError`] when a size is zero, groups do not divide the channels, the kernel does not fit or a
    /// tensor would be too large.
    pub fn new(spec: ConvSpec) -> Result<Self, ShapeError> {
        let positive = [
            ("in_channels", spec.in_channels),
            ("in_height", spec.in_height),
            ("in_width", spec.in_width),
            ("out_channels", spec.out_channels),
            ("kernel", spec.kernel[0].min(spec.kernel[1])),
            ("stride", spec.stride[0].min(spec.stride[1])),
            ("dilation", spec.dilation[0].min(spec.dilation[1])),
            ("groups", spec.groups),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, size)| *size == 0) {
            return Err(ShapeError::Zero(name));
        }
        for channels in [spec.in_channels, spec.out_channels] {
            if !channels.is_multiple_of(spec.groups) {
                return Err(ShapeError::Groups {
                    channels,
                    groups: spec.groups,
                });
            }
        }
        let small = |sizes: &[usize]| {
            let product = sizes
                .iter()
                .try_fold(1usize, |product, &size| product.checked_mul(size));
            product.is_some_and(|product| product <= Self::MAX_ELEMENTS)
        };
        let sizes = [spec.in_height, spec.in_width]
            .into_iter()
            .chain(spec.padding)
            .chain(spec.kernel);
        let sizes = sizes.chain(spec.dilation).chain(spec.stride);
        if sizes.into_iter().any(|size| size > Self::MAX_ELEMENTS) {
            return Err(ShapeError::TooLarge("geometry"));
        }
        let shape = Self { spec };
        for axis in 0..2 {
            let padded = [shape.padded_height(), shape.padded_width()][axis];
            let reach = (spec.kernel[axis] - 1)
                .saturating_mul(spec.dilation[axis])
                .saturating_add(1);
            if reach > padded {
                return Err(ShapeError::Kernel { padded, reach });
            }
        }
        if !small(&[
            spec.in_channels,
            shape.padded_height(),
            shape.padded_width(),
        ]) {
            return Err(ShapeError::TooLarge("padded input"));
        }
        if !small(&[spec.out_channels, shape.out_height(), shape.out_width()]) {
            return Err(ShapeError::TooLarge("output"));
        }
        if !small(&[
            spec.out_channels,
            spec.in_channels / spec.groups,
            spec.kernel[0],
            spec.kernel[1],
        ]) {
            return Err(ShapeError::TooLarge("weights"));
        }
        Ok(shape)
    }

    /// The sizes it was made of.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Rows of the output.
    pub fn out_height(&self) -> usize {
        let reach = (self.spec.kernel[0] - 1) * self.spec.dilation[0] + 1;
        (self.padded_height() - reach) / self.spec.stride[0] + 1
    }

    /// Columns of the output.
    pub fn out_width(&self) -> usize {
        let reach = (self.spec.kernel[1] - 1) * self.spec.dilation[1] + 1;
        (self.padded_width() - reach) / self.spec.stride[1] + 1
    }

    /// Rows of the padded input.
    pub fn padded_height(&self) -> usize {
        self.spec.in_height + self.spec.padding[0] + self.spec.padding[1]
    }

    /// Columns of the padded input.
    pub fn padded_width(&self) -> usize {
        self.spec.in_width + self.spec.padding[2] + self.spec.padding[3]
    }

    /// Elements of the padded input.
    pub fn padded_len(&self) -> usize {
        self.spec.in_channels * self.padded_height() * self.padded_width()
    }

    /// Elements of the output.
    pub fn out_len(&self) -> usize {
        self.spec.out_channels * self.out_height() * self.out_width()
    }

    /// Number of weights: out_channels x in_channels/groups x kernel.
    pub fn weights_len(&self) -> usize {
        self.spec.out_channels * self.group_inputs() * self.spec.kernel[0] * self.spec.kernel[1]
    }

    /// Input channels of a group.
    pub fn group_inputs(&self) -> usize {
        self.spec.in_channels / self.spec.groups
    }

    /// Output channels of a group.
    pub fn group_outputs(&self) -> usize {
        self.spec.out_channels / self.spec.groups
    }

    /// The phases of every channel and where the taps read them.
    pub fn phases(&self) -> Phases {
        let ConvSpec {
            kernel,
            stride,
            dilation,
            ..
        } = self.spec;
        let (height, width) = (
            self.padded_height().div_ceil(stride[0]),
            self.padded_width().div_ceil(stride[1]),
        );
        let mut origins: Vec<[usize; 2]> = Vec::new();
        let mut taps = Vec::with_capacity(kernel[0] * kernel[1]);
        for y in (0..kernel[0]).map(|y| y * dilation[0]) {
            for x in (0..kernel[1]).map(|x| x * dilation[1]) {
                let origin = [y % stride[0], x % stride[1]];
                let phase = origins
                    .iter()
                    .position(|known| *known == origin)
                    .unwrap_or_else(|| {
                        origins.push(origin);
                        origins.len() - 1
                    });
                taps.push(Tap {
                    phase,
                    offset: y / stride[0] * width + x / stride[1],
                });
            }
        }
        Phases {
            origins,
            height,
            width,
            taps,
            stride,
            padded: [self.padded_height(), self.padded_width()],
        }
    }
}

impl Phases {
    /// Pixels of a phase's raster.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Whether the one phase is the channel's padded raster itself.
    pub fn is_identity(&self) -> bool {
        self.stride == [1, 1]
    }

    /// Whether every pixel of the padded raster belongs to a phase that a tap reads.
    pub fn covers_raster(&self) -> bool {
        self.origins.len()
            == self.stride[0].min(self.padded[0]) * self.stride[1].min(self.padded[1])
    }

    /// Copies a phase out of a channel's padded raster; positions beyond the raster become 0.
    pub fn gather(&self, channel: &[u32], phase: usize, out: &mut [u32]) {
        self.rows(phase, |from, columns, to| {
            let row = channel[from..].iter().step_by(self.stride[1]).take(columns);
            let (copied, beyond) = out[to..to + self.width].split_at_mut(columns);
            copied
                .iter_mut()
                .zip(row)
                .for_each(|(out, pixel)| *out = *pixel);
            beyond.fill(0);
        });
        let rows = (self.padded[0] - self.origins[phase][0]).div_ceil(self.stride[0]);
        out[rows * self.width..self.pixels()].fill(0);
    }

    /// Copies a phase into a channel's padded raster, the inverse of [`Self::gather`].
    pub fn scatter(&self, pixels: &[u32], phase: usize, channel: &mut [u32]) {
        if self.is_identity() {
            channel.copy_from_slice(pixels);
            return;
        }
        self.rows(phase, |to, columns, from| {
            let row = channel[to..]
                .iter_mut()
                .step_by(self.stride[1])
                .take(columns);
            row.zip(&pixels[from..])
                .for_each(|(out, pixel)| *out = *pixel);
        });
    }

    /// Calls `visit` with (first pixel in the padded raster, columns, first pixel in the phase) for each row.
    fn rows(&self, phase: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let [top, left] = self.origins[phase];
        let columns = (self.padded[1] - left).div_ceil(self.stride[1]);
        for (index, row) in (top..self.padded[0]).step_by(self.stride[0]).enumerate() {
            visit(row * self.padded[1] + left, columns, index * self.width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ConvSpec {
        ConvSpec {
            in_channels: 4,
            in_height: 9,
            in_width: 7,
            out_channels: 6,
            kernel: [3, 3],
            stride: [2, 2],
            dilation: [1, 1],
            padding: [1, 1, 1, 1],
            groups: 2,
        }
    }

    #[test]
    fn shape_of_strided_convolution_counts_as_keras_does() {
        let shape = ConvShape::new(spec()).unwrap();
        assert_eq!((shape.padded_height(), shape.padded_width()), (11, 9));
        assert_eq!((shape.out_height(), shape.out_width()), (5, 4));
        assert_eq!(
            (shape.padded_len(), shape.out_len(), shape.weights_len()),
            (396, 120, 108)
        );
    }

    #[test]
    fn shape_with_impossible_sizes_is_refused() {
        let refused = |change: fn(&mut ConvSpec)| {
            let mut bad = spec();
            change(&mut bad);
            ConvShape::new(bad).unwrap_err()
        };
        assert_eq!(refused(|s| s.stride = [0, 1]), ShapeError::Zero("stride"));
        assert_eq!(
            refused(|s| s.groups = 3),
            ShapeError::Groups {
                channels: 4,
                groups: 3
            }
        );
        assert_eq!(
            refused(|s| s.kernel = [3, 10]),
            ShapeError::Kernel {
                padded: 9,
                reach: 10
            }
        );
        assert_eq!(
            refused(|s| s.in_height = 1 << 25),
            ShapeError::TooLarge("padded input")
        );
        assert_eq!(
            refused(|s| s.in_height = usize::MAX),
            ShapeError::TooLarge("geometry")
        );
        assert_eq!(
            refused(|s| s.out_channels = usize::MAX - 1),
            ShapeError::TooLarge("output")
        );
    }

    #[test]
    fn phases_gathered_and_scattered_give_the_raster_back() {
        let shape = ConvShape::new(spec()).unwrap();
        let phases = shape.phases();
        assert_eq!(
            (phases.origins.len(), phases.height, phases.width),
            (4, 6, 5)
        );
        assert!(phases.covers_raster());
        let channel: Vec<u32> = (1..=99).collect();
        let mut back = vec![0; 99];
        for phase in 0..4 {
            let mut pixels = vec![u32::MAX; 30];
            phases.gather(&channel, phase, &mut pixels);
            phases.scatter(&pixels, phase, &mut back);
        }
        assert_eq!(back, channel);
    }
}
