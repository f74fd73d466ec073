/* The tutorial's network in a plain C loop, on one core and without records.

       cc -O3 -march=native -ffast-math _loop.c -o loop -lm
       ./loop FOLDER sigmoid|relu|leaky_relu

   `_peers.py` writes FOLDER and calls it. A line of JSON tells the steps a second, and the losses
   of the first ten steps and of the last. Kernels are held transposed, `[units, inputs]`, so that
   the innermost loops run along rows. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { INPUTS = 784, UNITS = 10, LAYERS = 6, BATCH = 30, TOLD = 10 };
enum { VALUES = (INPUTS + (LAYERS - 1) * UNITS + LAYERS) * UNITS };

/* Keras' defaults. */
static const float LEARNING_RATE = 1e-3f, BETA_1 = 0.9f, BETA_2 = 0.999f, EPSILON = 1e-7f;
static const float LEAK = 0.2f;

typedef float Rows[BATCH][UNITS];

/* All kernels and biases, their gradients, and Adam's moments, in the order of the layers. */
static float values[VALUES], gradients[VALUES], first[VALUES], second[VALUES];
/* `outputs[k]` are those of layer k, from 1 on, and `deltas[k]` the loss's gradient by its sums. */
static float images[BATCH][INPUTS];
static Rows outputs[LAYERS + 1], deltas[LAYERS + 1];
static int labels[BATCH];
static enum { SIGMOID, RELU, LEAKY_RELU } activation;

/* Where the kernel of a layer begins; its biases follow. */
static int place(int layer) {
    return layer == 1 ? 0 : (INPUTS + 1 + (layer - 2) * (UNITS + 1)) * UNITS;
}

static inline void sums(int size, const float *inputs, const float *kernel, Rows out) {
    const float *bias = kernel + UNITS * size;
    for (int row = 0; row < BATCH; row++)
        for (int unit = 0; unit < UNITS; unit++) {
            float sum = bias[unit];
            for (int i = 0; i < size; i++) sum += kernel[unit * size + i] * inputs[row * size + i];
            out[row][unit] = sum;
        }
}

static inline void kernel_gradient(int size, const float *inputs, Rows delta, float *gradient) {
    float *bias = gradient + UNITS * size;
    memset(gradient, 0, sizeof(float) * UNITS * (size + 1));
    for (int unit = 0; unit < UNITS; unit++)
        for (int row = 0; row < BATCH; row++) {
            bias[unit] += delta[row][unit];
            for (int i = 0; i < size; i++)
                gradient[unit * size + i] += delta[row][unit] * inputs[row * size + i];
        }
}

static void activate(Rows sums_of_layer) {
    float *z = sums_of_layer[0];
    for (int i = 0; i < BATCH * UNITS; i++) {
        if (activation == SIGMOID) z[i] = 1 / (1 + expf(-z[i]));
        else if (z[i] <= 0) z[i] *= activation == RELU ? 0 : LEAK;
    }
}

/* From the output alone: it has the sign of the sum. */
static float slope(float output) {
    if (activation == SIGMOID) return output * (1 - output);
    return output > 0 ? 1 : activation == RELU ? 0 : LEAK;
}

static void forward(void) {
    sums(INPUTS, images[0], values, outputs[1]);
    for (int layer = 2; layer <= LAYERS; layer++) {
        activate(outputs[layer - 1]);
        sums(UNITS, outputs[layer - 1][0], values + place(layer), outputs[layer]);
    }
}

/* The mean cross-entropy; its gradient by the logits goes into the last `deltas`. */
static float cross_entropy(void) {
    float loss = 0;
    for (int row = 0; row < BATCH; row++) {
        float *logits = outputs[LAYERS][row], *delta = deltas[LAYERS][row];
        float largest = logits[0], sum = 0;
        for (int unit = 1; unit < UNITS; unit++) largest = fmaxf(largest, logits[unit]);
        for (int unit = 0; unit < UNITS; unit++) sum += delta[unit] = expf(logits[unit] - largest);
        for (int unit = 0; unit < UNITS; unit++)
            delta[unit] = (delta[unit] / sum - (unit == labels[row])) / BATCH;
        loss += (logf(sum) + largest - logits[labels[row]]) / BATCH;
    }
    return loss;
}

static void backward(void) {
    for (int layer = LAYERS; layer > 1; layer--) {
        const float *kernel = values + place(layer);
        kernel_gradient(UNITS, outputs[layer - 1][0], deltas[layer], gradients + place(layer));
        for (int row = 0; row < BATCH; row++) {
            float back[UNITS] = {0};
            for (int unit = 0; unit < UNITS; unit++)
                for (int i = 0; i < UNITS; i++)
                    back[i] += deltas[layer][row][unit] * kernel[unit * UNITS + i];
            for (int i = 0; i < UNITS; i++)
                deltas[layer - 1][row][i] = back[i] * slope(outputs[layer - 1][row][i]);
        }
    }
    kernel_gradient(INPUTS, images[0], deltas[1], gradients);
}

/* Kingma and Ba 2015, at the end of section 2. */
static void adam(int step) {
    float rate = LEARNING_RATE * sqrt(1 - pow(BETA_2, step + 1)) / (1 - pow(BETA_1, step + 1));
    for (int i = 0; i < VALUES; i++) {
        first[i] += (gradients[i] - first[i]) * (1 - BETA_1);
        second[i] += (gradients[i] * gradients[i] - second[i]) * (1 - BETA_2);
        values[i] -= rate * first[i] / (sqrtf(second[i]) + EPSILON);
    }
}

/* A whole file; `size` is set to its length in bytes. */
static void *contents(const char *folder, const char *name, long *size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) || (*size = ftell(file)) < 0) perror(path), exit(1);
    rewind(file);
    void *bytes = malloc(*size);
    if (!bytes || fread(bytes, 1, *size, file) != (size_t)*size) perror(path), exit(1);
    fclose(file);
    return bytes;
}

static void load_values(const float *weights) {
    for (int layer = 1; layer <= LAYERS; layer++) {
        int size = layer == 1 ? INPUTS : UNITS;
        float *kernel = values + place(layer);
        for (int i = 0; i < size; i++)
            for (int unit = 0; unit < UNITS; unit++) kernel[unit * size + i] = *weights++;
        for (int unit = 0; unit < UNITS; unit++) kernel[UNITS * size + unit] = *weights++;
    }
}

static void take_batch(const int *batch, const unsigned char *pixels, const int *all_labels) {
    for (int row = 0; row < BATCH; row++) {
        const unsigned char *image = pixels + (size_t)batch[row] * INPUTS;
        for (int i = 0; i < INPUTS; i++) images[row][i] = image[i] / 255.0f;
        labels[row] = all_labels[batch[row]];
    }
}

static double now(void) {
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

int main(int count, char **arguments) {
    if (count != 3) return fputs("usage: loop FOLDER ACTIVATION\n", stderr), 2;
    const char *folder = arguments[1], *name = arguments[2];
    activation = !strcmp(name, "sigmoid") ? SIGMOID : !strcmp(name, "relu") ? RELU : LEAKY_RELU;
    long size;
    const unsigned char *pixels = contents(folder, "images", &size);
    const int *all_labels = contents(folder, "labels", &size);
    load_values(contents(folder, "weights", &size));
    const int *batches = contents(folder, "batches", &size);
    int steps = size / sizeof(int) / BATCH;
    float *losses = malloc(sizeof(float) * steps);

    double start = now();
    for (int step = 0; step < steps; step++) {
        take_batch(batches + step * BATCH, pixels, all_labels);
        forward();
        losses[step] = cross_entropy();
        backward();
        adam(step);
    }
    double seconds = now() - start;

    printf("{\"steps_per_second\": %.1f, \"first_losses\": [", steps / seconds);
    for (int step = 0; step < steps && step < TOLD; step++)
        printf("%s%.9g", step ? ", " : "", losses[step]);
    printf("], \"last_loss\": %.9g}\n", losses[steps - 1]);
}
