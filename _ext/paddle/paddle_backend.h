// A Paddle predictor as an instance's backend: driven through paddle_abi.h, without Python.
#pragma once

#include <atomic>
#include <climits>
#include <cstdio>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "paddle/deletion_mode.h"
#include "paddle/file_state.h"
#include "paddle/inner_blocks.h"
#include "paddle/mkl_buffers.h"
#include "paddle/onednn_cache.h"
#include "paddle/paddle_abi.h"
#include "paddle/paddle_weights.h"
#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/backend.h"
#include "running/malloc_trim.h"

namespace paddleinfer::paddle {

struct ModelOptions {
  std::vector<std::string> inputs;   // the order in which the engine numbers them
  std::vector<std::string> outputs;  // likewise
  std::vector<std::string> parameters;
  std::vector<FileState> files;      // those that Paddle reads
  const Place* cpu_place = nullptr;  // lives for ever
  bool on_cpu = true;
  bool share_weights = false;
  bool onednn = false;
  OneDnnSymbols onednn_symbols;
  OneDnnLimits onednn_limits;
  std::shared_ptr<OneDnnRecord> onednn_record;
  DeletionMode deletion_mode;
  MklBuffers mkl_buffers;
};

// What all instances of one engine have in common: the library, the names, the root predictor.
class Model {
 public:
  Model(Abi library, ModelOptions model_options) : abi(std::move(library)), options(std::move(model_options)) {}

  const Abi abi;
  const ModelOptions options;

  // The last clone's; read once the instances have started.
  WeightReport weights() {
    const MutexLock lock(predictor_lock());
    return weights_;
  }

  // A backend's, and the last thing of it that goes: what the last one of all leaves in malloc's heaps is given back.
  class Use {
   public:
    explicit Use(Model& model) noexcept : model_(model) { model_.uses_.fetch_add(1, std::memory_order_relaxed); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() {
      if (model_.uses_.fetch_sub(1, std::memory_order_acq_rel) == 1) trim_malloc();
    }

   private:
    Model& model_;
  };

 private:
  friend class PaddleBackend;
  std::atomic<int> uses_{0};
  Predictor* root_ GUARDED_BY(predictor_lock()) = nullptr;  // owned by instance 0's backend
  WeightReport weights_ GUARDED_BY(predictor_lock());
};

class PaddleBackend final : public Backend {
 public:
  // The root, from a config that outlives the call.
  PaddleBackend(std::shared_ptr<Model> model, const Config& config) : model_(std::move(model)) {
    const MutexLock lock(predictor_lock());
    check_files();
    {
      const OneDnnCacheGuard guard(model_->options.onednn_symbols);
      const DeletionScope scope(model_->options.deletion_mode);
      root_ = model_->abi.create(config);
    }
    if (!root_) throw std::runtime_error("Paddle made no predictor");
    check_files();
    predictor_ = root_.get();
    model_->root_ = predictor_;
    open_or_let_go(renews());
  }

  // A clone of the root. The root must not run meanwhile: engines open only when all instances are there.
  explicit PaddleBackend(std::shared_ptr<Model> model) : model_(std::move(model)) {
    const MutexLock lock(predictor_lock());
    open_or_let_go(true);
  }

  // Tensor handles are not deleted: Paddle exports nothing that does, and they are a few dozen bytes.
  ~PaddleBackend() override {
    const MutexLock lock(predictor_lock());
    let_go();
  }

  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (index == 0) {
      signature_ = 0xcbf29ce484222325u;
      if (onednn_ && onednn_->is_due_for_renewal()) renew();
      if (inputs_.empty()) open_inputs();  // there was no memory for it at the renewal
    }
    std::vector<int> dims(shape.rank);
    for (std::size_t axis = 0; axis < shape.rank; ++axis) {
      if (shape.dims[axis] > INT_MAX) throw std::length_error("a dimension is larger than Paddle can take");
      dims[axis] = static_cast<int>(shape.dims[axis]);
      signature_ = (signature_ ^ static_cast<std::uint64_t>(dims[axis])) * 0x100000001b3u;
    }
    Staged& staged = inputs_[index];
    const Abi& abi = model_->abi;
    abi.reshape(staged.handle, dims);
    staged.dtype = dtype;
    if (model_->options.on_cpu) {
      return abi.mutable_data(abi.dense(staged.handle), *model_->options.cpu_place, phi_code(dtype), 0);
    }
    staged.resize(shape.bytes(dtype));
    return staged.memory.get();
  }

  void run() override {
    if (!model_->options.on_cpu) {
      for (Staged& staged : inputs_) copies(staged.dtype).copy_from_cpu(staged.handle, staged.memory.get());
    }
    const InnerBlocks::Run among_others(renews());
    const PaddleBackend* const latest = std::exchange(latest_on_thread(), this);
    if (onednn_) onednn_->before_run(signature_, latest == this || latest == nullptr);
    const bool fine = has_run_ ? model_->abi.run(predictor_) : run_first();
    if (!fine) throw std::runtime_error("Paddle's run() returned false");
    if (onednn_) onednn_->after_run();
  }

  TensorView output(std::size_t index) override {
    if (outputs_.empty()) open_outputs();
    Staged& staged = outputs_[index];
    const Abi& abi = model_->abi;
    TensorView view;
    const DenseTensor* dense = abi.dense(staged.handle);
    view.dtype = dtype_of(abi.type(dense));
    const std::vector<int> dims = abi.shape(staged.handle);
    if (dims.size() > kMaxRank) throw std::length_error("an output has more than nine dimensions");
    view.shape.rank = dims.size();
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      if (dims[axis] < 0) {
        throw std::length_error(
            "(InvalidArgument) An output has a negative size: the inputs are too small for the model.");
      }
      view.shape.dims[axis] = dims[axis];
    }
    if (view.bytes() == 0) return view;
    // With oneDNN the bytes may lie in a layout of its own, which the copy undoes. It has no int16.
    const bool as_it_lies = model_->options.on_cpu && (!onednn_ || view.dtype == DType::int16);
    if (as_it_lies) {
      view.data = abi.data(dense);
    } else {
      staged.resize(view.bytes());
      copies(view.dtype).copy_to_cpu(staged.handle, staged.memory.get());
      view.data = staged.memory.get();
    }
    return view;
  }

 private:
  // The one that ran last on this thread; null before the first. It may be gone.
  static const PaddleBackend*& latest_on_thread() noexcept {
    static thread_local const PaddleBackend* latest = nullptr;
    return latest;
  }

  // A handle, and for a device memory of ours on the host side of the copy.
  struct Staged {
    Tensor* handle = nullptr;
    DType dtype = DType::float32;
    Memory memory;
    std::size_t bytes = 0;

    void resize(std::size_t wanted) {
      if (memory && wanted <= bytes) return;
      memory = allocate(wanted);
      bytes = wanted;
    }
  };

  bool run_first() {
    const DeletionScope scope(model_->options.deletion_mode);
    has_run_ = model_->abi.run(predictor_);
    model_->options.mkl_buffers.keep();
    return has_run_;
  }

  const TypedSymbols& copies(DType dtype) const {
    const TypedSymbols& typed = model_->abi.typed[static_cast<std::size_t>(dtype)];
    if (typed.copy_to_cpu == nullptr) throw std::invalid_argument("Paddle's inference tensors cannot copy this dtype");
    return typed;
  }

  static DType dtype_of(int code) {
    for (std::size_t number = 0; number < kDTypes; ++number) {
      if (phi_code(DType(number)) == code) return DType(number);
    }
    throw std::invalid_argument("an output has a dtype that is not supported");
  }

  // Its predictors come and go, so they are clones of a root that never runs: nothing may be cloned from one that does.
  bool renews() const noexcept { return model_->options.onednn && model_->options.onednn_limits.by_renewal; }

  void renew() {
    if (!predictor_lock().try_lock()) return;  // another engine loads; a later run will do
    const MutexLock lock(predictor_lock(), std::adopt_lock);
    Predictor* const fresh = clone_of_the_same_files();
    if (fresh == nullptr) return;  // of others; the kernels have to stay until the model is loaded anew
    Predictor* const before = std::exchange(predictor_, fresh);
    has_run_ = false;
    inputs_.clear();
    outputs_.clear();
    {
      const InnerBlocks::Emptying undisturbed(true);
      onednn_->begin_renewal();
      model_->abi.destroy(before);
      onednn_->end_renewal();
    }
    open_inputs();
  }

  Predictor* clone() REQUIRES(predictor_lock()) {
    const DeletionScope scope(model_->options.deletion_mode);
    Predictor* const made = model_->abi.clone(model_->root_, nullptr).get();
    if (made == nullptr) throw std::runtime_error("Paddle made no clone");
    if (!model_->options.share_weights) return made;
    try {
      model_->weights_ = WeightSharing(model_->abi).share(model_->root_, made, model_->options.parameters);
    } catch (...) {
      model_->abi.destroy(made);
      throw;
    }
    return made;
  }

  Predictor* clone_of_the_same_files() REQUIRES(predictor_lock()) {
    if (!all_hold(model_->options.files)) return nullptr;
    Predictor* const made = clone();
    if (all_hold(model_->options.files)) return made;
    model_->abi.destroy(made);
    return nullptr;
  }

  void check_files() const {
    if (!all_hold(model_->options.files)) throw std::runtime_error("the model's files have changed");
  }

  void open_or_let_go(bool on_clone) REQUIRES(predictor_lock()) {
    try {
      if (on_clone) predictor_ = clone();
      open();
    } catch (...) {  // a constructor that throws runs no destructor
      let_go();
      throw;
    }
  }

  void let_go() noexcept REQUIRES(predictor_lock()) {
    try {
      const InnerBlocks::Emptying undisturbed(renews());
      onednn_.reset();
      if (predictor_ != nullptr && predictor_ != root_.get()) model_->abi.destroy(predictor_);
      if (root_) {
        model_->root_ = nullptr;
        root_.reset();
      }
    } catch (...) {
      std::fputs("paddleinfer: Paddle failed while it freed a predictor; its memory stays\n", stderr);
    }
  }

  void open() {
    if (model_->options.onednn) {
      const ModelOptions& options = model_->options;
      onednn_ = std::make_unique<OneDnnCache>(options.onednn_symbols, options.onednn_limits, options.onednn_record);
    }
    open_inputs();
  }

  // All of them or, where it throws, none.
  void open_inputs() {
    std::vector<Staged> opened;
    for (const std::string& name : model_->options.inputs) {
      opened.push_back({model_->abi.input_handle(predictor_, name).get(), DType::float32, nullptr, 0});
    }
    inputs_ = std::move(opened);
  }

  // Paddle makes an output's variable no later than in the first run.
  void open_outputs() {
    std::vector<Staged> opened;
    for (const std::string& name : model_->options.outputs) {
      opened.push_back({model_->abi.output_handle(predictor_, name).get(), DType::float32, nullptr, 0});
    }
    outputs_ = std::move(opened);
  }

  const std::shared_ptr<Model> model_;
  const Model::Use use_{*model_};
  std::shared_ptr<Predictor> root_;  // set in instance 0 only
  Predictor* predictor_ = nullptr;
  bool has_run_ = false;  // the predictor
  std::vector<Staged> inputs_;
  std::vector<Staged> outputs_;
  std::unique_ptr<OneDnnCache> onednn_;
  std::uint64_t signature_ = 0;  // of the shapes of the batch being gathered
};

}  // namespace paddleinfer::paddle
