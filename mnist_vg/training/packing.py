"""A model's variables as the optimizer sees them: fewer and faster.

An optimizer that treats every element alike cannot tell how elements are laid out.
So the small variables share one vector, which spares the compiler a dozen
operations for each, and layer 1's kernel, by far the largest of the tutorial's, is
held as `[units, inputs]`, where its gradient is a product of rows.
`benchmarks/block.py` has the figures.
"""

import keras
import tensorflow as tf

SMALL = 2**14
"""Elements up to which a variable goes into the shared vector. A larger one gains
nothing there, and would be copied at every step."""


class Packing:
    """Trained variables in place of a model's.

    Two forms of the same numbers: *values*, one tensor a variable of the model, the
    first kernel transposed; and `variables`, what the optimizer trains.

    Args:
        variables: the model's trainable variables.
        first_kernel: the one of them that is transposed.
        elementwise: whether the optimizer is; for another one each variable is
            trained as the model has it.
        replicas: of stacked networks, how many: `variables` are `[..., replicas, values]`
            then, one of the model's each.
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

    def pack(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Values, or their gradients, in the form of `variables`."""
        small = [tf.reshape(values[i], [-1]) for i in self._small]
        large = [self._by_replica(values[i]) for i in self._large]
        return ([tf.concat(small, axis=0)] if small else []) + large

    def _by_replica(self, value):
        # Keras' batch normalization has the units of all replicas in one row.
        in_one_row = self._replicas and value.shape.rank == 1
        return tf.reshape(value, [self._replicas, -1]) if in_one_row else value

    def unpack(self) -> list[tf.Tensor]:
        """The present values."""
        packed = [tf.convert_to_tensor(variable) for variable in self.variables]
        small = tf.split(packed.pop(0), self._small_sizes) if self._small else []
        values = dict(zip(self._small + self._large, small + packed, strict=True))
        return [tf.reshape(values[i], shape) for i, shape in enumerate(self._shapes)]

    def model_values(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Values as the model has them."""
        return [
            tf.transpose(value) if transposed else value
            for value, transposed in zip(values, self._transposed, strict=True)
        ]

    def load(self) -> None:
        """Take the model's values over."""
        for variable, tensor in zip(
            self.variables, self.pack(self._values_of_model()), strict=True
        ):
            variable.assign(tensor)

    def store(self) -> None:
        """Give the model the present values."""
        for variable, value in zip(
            self._model_variables, self.model_values(self.unpack()), strict=True
        ):
            variable.assign(value)

    def _values_of_model(self):
        # Transposing once more is the way back.
        return self.model_values([tf.convert_to_tensor(v) for v in self._model_variables])
