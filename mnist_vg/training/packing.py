"""A model's variables in the form in which the optimizer trains them fastest.

Most optimizers treat every element by itself, so the layout of the elements does not
matter to them. This is used twice. The small variables are packed into one vector: each
variable apart would cost the compiled program a dozen operations. And layer 1's kernel, by
far the largest of the tutorial's network, is held transposed, `[units, inputs]`: its
gradient is then a product that reads both matrices row by row.
`benchmarks/block.py` measures both.
"""

import keras
import tensorflow as tf

SMALL = 2**14
"""A variable of at most this many elements goes into the shared vector. A larger one would
gain nothing there, and would be copied at every step."""


class Packing:
    """Packed variables, which are trained instead of the model's.

    There are two forms of the same numbers: *values*, one tensor per variable of the model
    with the first kernel transposed, and `variables`, which the optimizer trains.

    Args:
        variables: the model's trainable variables.
        first_kernel: the variable to transpose; None for none.
        elementwise: whether the optimizer treats each element by itself. If not, each
            variable is trained as the model has it.
        replicas: number of stacked networks; `variables` are then one per variable of
            the model, `[..., replicas, values]`.
    """

    def __init__(
        self,
        variables: list[keras.Variable],
        first_kernel: keras.Variable | None,
        elementwise: bool,
        replicas: int | None = None,
    ):
        self._model_variables = variables
        self._replicas = replicas
        self._transposed = [elementwise and v is first_kernel for v in variables]
        values = self._values_of_model()
        self._shapes = [value.shape for value in values]
        sizes = [shape.num_elements() for shape in self._shapes]
        small = SMALL if elementwise and replicas is None else 0
        self._small = [i for i, size in enumerate(sizes) if size <= small]
        self._large = [i for i, size in enumerate(sizes) if size > small]
        self._small_sizes = [sizes[i] for i in self._small]
        self.variables = [keras.Variable(tensor, name="packed") for tensor in self.pack(values)]

    def positions(self, variables: list[keras.Variable]) -> list[int]:
        """Which of the values are those of these variables of the model."""
        position = {id(variable): i for i, variable in enumerate(self._model_variables)}
        return [position[id(variable)] for variable in variables]

    def pack(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Values, or their gradients, in the form of `variables`."""
        small = [tf.reshape(values[i], [-1]) for i in self._small]
        large = [self._by_replica(values[i]) for i in self._large]
        return ([tf.concat(small, axis=0)] if small else []) + large

    def _by_replica(self, value):
        # Batch normalization of stacked networks has the units of all of them in one row.
        in_one_row = self._replicas and value.shape.rank == 1
        return tf.reshape(value, [self._replicas, -1]) if in_one_row else value

    def unpack(self) -> list[tf.Tensor]:
        """The present values, from `variables`."""
        packed = [tf.convert_to_tensor(variable) for variable in self.variables]
        small = tf.split(packed.pop(0), self._small_sizes) if self._small else []
        values = dict(zip(self._small + self._large, small + packed, strict=True))
        return [tf.reshape(values[i], shape) for i, shape in enumerate(self._shapes)]

    def model_values(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Values in the shapes of the model's variables."""
        return [
            tf.transpose(value) if transposed else value
            for value, transposed in zip(values, self._transposed, strict=True)
        ]

    def load(self) -> None:
        """Copy the model's variables into `variables`."""
        for variable, tensor in zip(
            self.variables, self.pack(self._values_of_model()), strict=True
        ):
            variable.assign(tensor)

    def store(self) -> None:
        """Copy `variables` back into the model's."""
        for variable, value in zip(
            self._model_variables, self.model_values(self.unpack()), strict=True
        ):
            variable.assign(value)

    def _values_of_model(self):
        # `model_values` transposes the first kernel, in either direction.
        return self.model_values([tf.convert_to_tensor(v) for v in self._model_variables])
